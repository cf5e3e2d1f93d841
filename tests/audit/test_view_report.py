"""The report page: the first verdict, decisions, own queries, the lease, closing; refusals with the present state."""

import html
import re
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.http import HttpResponse
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from audit.models import Arm, Decision, DecisionKind, Judgment, Outcome, Report, ReportStatus, SuggestionsState
from audit.services import claim
from extraction.errors import SearchUnavailable
from tests.audit.loop import make_indexed
from tests.factories import (
    make_adapter,
    make_base,
    make_batch,
    make_claimed_report,
    make_decision,
    make_item,
    make_judgment,
    make_policy,
    make_report,
    make_suggestion,
)

HTMX = {"HX-Request": "true"}
TEXT = "forged diploma with a stamp, see my page"


@pytest.fixture
def client(auditor: User, login: Callable[[User], Client]) -> Client:
    return login(auditor)


@pytest.fixture
def report(auditor: User) -> Report:
    """A confirmed report of the auditor's own."""
    return make_claimed_report(user=auditor, text=TEXT)


@pytest.fixture
def post(client: Client) -> Callable[..., HttpResponse]:
    """`post("decide", id, decision="accepted")`: with a fresh key, as htmx unless `htmx=False`."""

    def send(name: str, *args: object, htmx: bool = True, **data: Any) -> Any:
        values = {"key": str(uuid.uuid4())} | data
        headers = HTMX if htmx else {}
        return client.post(reverse(f"audit:{name}", args=args), values, headers=headers)

    return send


def page(client: Client, report: Report) -> str:
    response = client.get(reverse("audit:report", args=[report.public_id]))
    assert response.status_code == 200
    return response.content.decode()


def test_a_report_that_is_not_there_is_404(client: Client) -> None:
    assert client.get(reverse("audit:report", args=[uuid.uuid4()])).status_code == 404


def test_the_first_verdict_opens_the_queries(client: Client, auditor: User, post: Callable[..., HttpResponse]) -> None:
    report = make_report(text=TEXT)
    suggestion = make_suggestion("stamp", report=report)
    claim(report=report, user=auditor, key=uuid.uuid4())
    Report.objects.update(arm=Arm.VISIBLE)
    assert f"suggestion-{suggestion.public_id}" not in page(client, report)
    response = post("judge-report", report.public_id, htmx=False, verdict="toxic", policy=report.policy.key)
    assert response.status_code == 303
    assert f"suggestion-{suggestion.public_id}" in page(client, report)


def test_the_policy_is_corrected_with_the_first_verdict(auditor: User, post: Callable[..., HttpResponse]) -> None:
    report, other = make_report(text=TEXT), make_policy("other")
    claim(report=report, user=auditor, key=uuid.uuid4())
    post("judge-report", report.public_id, htmx=False, verdict="toxic", policy="other")
    report.refresh_from_db()
    assert report.policy == other


def test_no_verdict_is_ticked_before_the_person_does(client: Client, auditor: User) -> None:
    report = make_report(text=TEXT)
    claim(report=report, user=auditor, key=uuid.uuid4())
    markup = page(client, report)
    assert 'aria-pressed="true"' not in markup
    assert "checked" not in markup.split("<main", 1)[1]


def test_cannot_tell_without_a_reason_is_422(auditor: User, post: Callable[..., HttpResponse]) -> None:
    report = make_report(text=TEXT)
    claim(report=report, user=auditor, key=uuid.uuid4())
    response = post("judge-report", report.public_id, htmx=False, verdict="cant_tell", policy=report.policy.key)
    assert response.status_code == 422
    assert b"Say what is missing" in response.content
    assert not Judgment.objects.exists()


def test_the_first_verdict_can_be_taken_back(
    client: Client, auditor: User, report: Report, post: Callable[..., HttpResponse]
) -> None:
    judgment = make_judgment(report=report, user=auditor)
    assert post("undo-report-verdict", judgment.public_id, htmx=False).status_code == 303
    report.refresh_from_db()
    assert report.status == ReportStatus.CLAIMED


@pytest.mark.parametrize(("word", "kind"), [("accepted", DecisionKind.ACCEPTED), ("rejected", DecisionKind.REJECTED)])
def test_a_decision_swaps_the_row_and_what_follows(
    report: Report, post: Callable[..., HttpResponse], word: str, kind: DecisionKind
) -> None:
    suggestion = make_suggestion("stamp", report=report)
    response = post("decide", suggestion.public_id, decision=word, duration_ms="1200")
    markup = response.content.decode()
    assert response.status_code == 200
    assert markup.startswith(f'<li class="query" id="suggestion-{suggestion.public_id}" data-state="{word}"')
    for part in ("report-text", "tray", "toasts", "live", "queries-note"):
        assert f'id="{part}" hx-swap-oob' in markup
    decision = Decision.objects.get()
    assert (decision.kind, decision.duration_ms) == (kind, 1200)


def test_a_decision_without_script_leads_back_to_its_row(report: Report, post: Callable[..., HttpResponse]) -> None:
    suggestion = make_suggestion("stamp", report=report)
    response = post("decide", suggestion.public_id, htmx=False, decision="accepted")
    assert response.status_code == 303
    assert response["Location"].endswith(f"#suggestion-{suggestion.public_id}")


def test_the_time_spent_counts_from_the_render_without_script(
    report: Report, post: Callable[..., HttpResponse]
) -> None:
    suggestion = make_suggestion("stamp", report=report)
    post("decide", suggestion.public_id, htmx=False, decision="accepted", shown_at="1000")
    assert Decision.objects.get().duration_ms == 60 * 60 * 1000  # nobody looks for longer than an hour


def test_the_edit_form_is_a_link_and_a_fragment(client: Client, report: Report) -> None:
    suggestion = make_suggestion("stamp", report=report)
    address = reverse("audit:edit-suggestion", args=[suggestion.public_id])
    assert b'class="query__edit"' in client.get(address, headers=HTMX).content
    followed = client.get(address, follow=True)
    assert b'class="query__edit"' in followed.content


def test_an_edit_that_is_too_short_is_422_in_the_form(report: Report, post: Callable[..., HttpResponse]) -> None:
    suggestion = make_suggestion("stamp", report=report)
    response = post("decide", suggestion.public_id, decision="edited", text="x")
    markup = response.content.decode()
    assert response.status_code == 422
    assert 'value="x"' in markup
    assert 'aria-invalid="true"' in markup
    assert "Too short to search" in markup


def test_a_second_decision_is_409_with_the_row_as_it_stands(report: Report, post: Callable[..., HttpResponse]) -> None:
    suggestion = make_suggestion("stamp", report=report)
    post("decide", suggestion.public_id, decision="accepted")
    response = post("decide", suggestion.public_id, decision="rejected")
    assert response.status_code == 409
    assert 'data-state="accepted"' in response.content.decode()
    assert b"already decided" in response.content


def test_a_double_click_decides_once(report: Report, post: Callable[..., HttpResponse]) -> None:
    suggestion, key = make_suggestion("stamp", report=report), str(uuid.uuid4())
    assert post("decide", suggestion.public_id, decision="accepted", key=key).status_code == 200
    assert post("decide", suggestion.public_id, decision="accepted", key=key).status_code == 409
    assert Decision.objects.count() == 1


def test_a_lost_lease_is_409_and_names_what_is_kept(
    second_auditor: User, report: Report, post: Callable[..., HttpResponse]
) -> None:
    suggestion = make_suggestion("stamp", report=report)
    Report.objects.update(claimed_by=second_auditor)
    response = post("decide", suggestion.public_id, decision="accepted")
    assert response.status_code == 409
    assert b"not yours, or no longer" in response.content
    assert not Decision.objects.exists()


def test_an_own_query_keeps_its_place_in_the_text(
    report: Report, post: Callable[..., HttpResponse], engine_file: Path
) -> None:
    make_indexed("another forged diploma")
    start = TEXT.find("diploma")
    response = post("add-query", report.public_id, start=start - 1, end=start + 7)  # a space was marked with it
    assert response.status_code == 200
    decision = Decision.objects.get()
    assert (decision.text, decision.span_start, decision.span_end) == ("diploma", start, start + 7)


def test_the_marked_phrase_shows_what_it_would_find(client: Client, report: Report, engine_file: Path) -> None:
    make_indexed("another forged diploma", "a third diploma")
    start = TEXT.find("diploma")
    address = reverse("audit:selection", args=[report.public_id])
    markup = client.get(address, {"start": start, "end": start + 7}, headers=HTMX).content.decode()
    assert "2 results, 2 unseen, none judged yet" in markup
    assert "Add as query" in markup


def test_a_marked_phrase_that_is_too_short_says_so(client: Client, report: Report, engine_file: Path) -> None:
    address = reverse("audit:selection", args=[report.public_id])
    markup = client.get(address, {"start": 0, "end": 1}, headers=HTMX).content.decode()
    assert "Too short to search" in markup
    assert "Add as query" not in markup


def test_a_search_that_is_down_does_not_stop_the_work(
    report: Report, post: Callable[..., HttpResponse], monkeypatch: pytest.MonkeyPatch, client: Client
) -> None:
    def down() -> None:
        raise SearchUnavailable

    monkeypatch.setattr("audit.forecasts.get_engine", down)
    address = reverse("audit:forecast", args=[report.public_id])
    assert b"The search did not answer" in client.get(address, {"text": "diploma"}, headers=HTMX).content
    assert post("add-query", report.public_id, text="diploma").status_code == 200
    assert b"You can still decide" in page(client, report).encode()


def test_an_own_query_that_is_there_already_is_422(
    report: Report, post: Callable[..., HttpResponse], engine_file: Path
) -> None:
    make_indexed("another forged diploma")
    post("add-query", report.public_id, text="diploma")
    response = post("add-query", report.public_id, text="Diploma")
    assert response.status_code == 422
    assert b"already among the queries" in response.content
    assert b'value="Diploma"' in response.content


def test_undoing_an_own_query_takes_its_row_away(
    auditor: User, report: Report, post: Callable[..., HttpResponse]
) -> None:
    decision = make_decision(report=report, user=auditor, text="diploma")
    response = post("undo-decision", decision.public_id)
    assert response.status_code == 200
    assert f"decision-{decision.public_id}" not in response.content.decode()


def test_own_first_hides_the_suggestions_until_they_are_asked_for(
    client: Client, report: Report, post: Callable[..., HttpResponse]
) -> None:
    suggestion = make_suggestion("stamp", report=report)
    Report.objects.update(arm=Arm.OWN_FIRST)
    before = page(client, report)
    assert "Show the suggestions" in before
    assert str(suggestion.public_id) not in before
    assert post("reveal", report.public_id, htmx=False).status_code == 303
    assert str(suggestion.public_id) in page(client, report)


def test_run_is_disabled_without_an_accepted_query(
    client: Client, report: Report, post: Callable[..., HttpResponse]
) -> None:
    markup = page(client, report)
    assert "data-after-last disabled" in markup
    response = post("run", report.public_id, htmx=False)
    assert response.status_code == 422
    assert b"Accept a query or make one of your own first" in response.content


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (SuggestionsState.PENDING, "Suggestions are being prepared"),
        (SuggestionsState.NONE, "Nothing is suggested"),
        (SuggestionsState.FAILED, "could not be prepared"),
        (SuggestionsState.OFF, "switched off for this policy"),
    ],
)
def test_every_state_of_the_suggestions_has_its_sentence(
    client: Client, report: Report, state: SuggestionsState, words: str
) -> None:
    Report.objects.update(suggestions_state=state)
    assert words in page(client, report)


def test_polling_for_suggestions_stops_when_they_are_there(client: Client, report: Report) -> None:
    address = reverse("audit:await-suggestions", args=[report.public_id])
    Report.objects.update(suggestions_state=SuggestionsState.PENDING)
    assert client.get(address, headers=HTMX).status_code == 200
    make_suggestion("stamp", report=report)
    response = client.get(address, headers=HTMX)
    assert response.status_code == 286
    assert b"hx-trigger" not in response.content


def test_a_forecast_shows_each_share_with_its_count(client: Client, report: Report) -> None:
    make_suggestion("many", report=report, past_toxic=31, past_judged=50)
    make_suggestion("few", report=report, past_toxic=5, past_judged=9)
    make_suggestion("none", report=report, past_toxic=0, past_judged=0)
    markup = page(client, report)
    assert "<b>62%</b> <span>31 of 50</span>" in markup
    assert "5 of 9 judged, too few" in markup
    assert "none judged yet" in markup
    assert "0%</b>" not in markup


def test_skipping_without_a_reason_is_422(report: Report, post: Callable[..., HttpResponse]) -> None:
    response = post("close", report.public_id, htmx=False, outcome="skipped")
    assert response.status_code == 422
    assert b"Give a reason" in response.content


def test_skipping_with_a_reason_closes_the_report(report: Report, post: Callable[..., HttpResponse]) -> None:
    response = post("close", report.public_id, htmx=False, outcome="skipped", why="I would rather not read this one")
    assert response["Location"] == reverse("audit:queue")
    report.refresh_from_db()
    assert report.outcome == Outcome.SKIPPED


def test_done_closes_the_report_and_opens_the_next(report: Report, post: Callable[..., HttpResponse]) -> None:
    following = make_report(text="the next one")
    response = post("finish", report.public_id, htmx=False)
    assert response["Location"] == reverse("audit:report", args=[following.public_id])
    report.refresh_from_db()
    assert report.outcome == Outcome.CONFIRMED


def test_the_heartbeat_of_a_lost_report_is_409(
    second_auditor: User, report: Report, post: Callable[..., HttpResponse]
) -> None:
    assert post("heartbeat", report.public_id).status_code == 200
    Report.objects.update(claimed_by=second_auditor)
    response = post("heartbeat", report.public_id)
    assert response.status_code == 409
    assert b"no longer yours" in response.content


def test_somebody_elses_report_can_be_read_but_not_worked_on(client: Client, second_auditor: User) -> None:
    report = make_claimed_report(user=second_auditor, text=TEXT)
    make_suggestion("stamp", report=report)
    markup = page(client, report)
    assert "has it for" in markup
    assert "/decide/" not in markup
    assert "Run exploration" not in markup


def test_a_text_is_shown_as_it_is_written(client: Client, auditor: User) -> None:
    text = "<script>alert(1)</script>\r\nsecond line & more"
    report = make_claimed_report(user=auditor, item=make_item(text))
    markup = page(client, report)
    assert "&lt;script&gt;alert(1)&lt;/script&gt;&#13;\nsecond line &amp; more" in markup


def test_an_equal_text_that_was_judged_toxic_is_pointed_out(client: Client, auditor: User, report: Report) -> None:
    twin = make_report(item=make_item(TEXT.upper()))
    make_judgment(report=twin, user=auditor)
    assert "equals, word for word after normalisation" in page(client, report)


def test_an_earlier_outcome_is_shown(client: Client, auditor: User) -> None:
    item = make_item(TEXT)
    before = make_report(item=item, status=ReportStatus.CLOSED, outcome=Outcome.UNFOUNDED)
    report = make_claimed_report(user=auditor, item=item, previous=before)
    assert f"{before.number}</a>: unfounded" in page(client, report)


def test_the_number_of_queries_does_not_grow_with_the_suggestions(
    client: Client, auditor: User, report: Report
) -> None:
    def count() -> int:
        with CaptureQueriesContext(connection) as captured:
            page(client, report)
        return len(captured)

    make_decision(suggestion=make_suggestion("stamp", report=report), user=auditor)
    count()
    few = count()
    for number in range(6):
        make_decision(suggestion=make_suggestion(f"stamp {number}", report=report), user=auditor)
        make_suggestion(f"other {number}", report=report)
    assert count() == few
    assert few <= 22


# --- who proposed


def proposed(report: Report, base: dict[str, Any], *proposers: str) -> None:
    """The shown batch, with one suggestion of each proposer."""
    adapter = make_adapter("dpo-14", base=make_base(**base))
    report.batch = make_batch(report=report, suggester="search+llm", suggester_version="3+dpo-14", adapter=adapter)
    report.suggestions_state = "ready"
    report.save(update_fields=["batch", "suggestions_state"])
    for proposer in proposers:
        make_suggestion(f"phrase of {proposer}", batch=report.batch, proposer=proposer)


def test_a_row_says_who_proposed_it(client: Client, report: Report) -> None:
    proposed(report, {}, "search", "model", "both")
    said = re.findall(r'class="query__from">([^<]*)<', page(client, report))
    assert said == ["search", "model dpo-14", "search and model dpo-14"]


@pytest.mark.parametrize(
    ("suggester", "version", "with_adapter", "words"),
    [
        ("search", "3", False, "Suggested by search 3, counted"),
        ("search+llm", "3+dpo-14", True, "Suggested by search 3 and model dpo-14, counted"),
        ("llm", "3+dpo-14", True, "Suggested by model dpo-14, scored by search 3, counted"),
    ],
)
def test_the_list_says_who_suggested_it(
    client: Client, report: Report, suggester: str, version: str, with_adapter: bool, words: str
) -> None:
    adapter = make_adapter("dpo-14") if with_adapter else None
    report.batch = make_batch(report=report, suggester=suggester, suggester_version=version, adapter=adapter)
    report.save(update_fields=["batch"])
    make_suggestion("stamp", batch=report.batch)
    assert words in page(client, report)


def test_a_model_made_here_is_described_in_one_honest_sentence(client: Client, report: Report) -> None:
    proposed(report, {"parameters": 405_120}, "search", "model")
    (sentence,) = re.findall(r'queries__model">(.*?)</p>', page(client, report))
    assert html.unescape(sentence) == (
        "The model dpo-14 has 410,000 parameters and learned from this site's texts and decisions alone: it points at "
        "phrases of the report and does not understand them."
    )


def test_a_named_model_is_called_by_its_name(client: Client, report: Report) -> None:
    named = {"name": "Qwen2.5-7B-Instruct", "reference": "Qwen/Qwen2.5-7B-Instruct", "parameters": 7_615_616_512}
    proposed(report, named, "model")
    assert "The model dpo-14 is Qwen2.5-7B-Instruct with 7.6 billion parameters" in page(client, report)


def test_suggestions_of_search_alone_speak_of_no_model(client: Client, report: Report) -> None:
    proposed(report, {}, "search")
    assert "queries__model" not in page(client, report)


def test_no_confidence_stands_beside_a_suggestion(client: Client, report: Report) -> None:
    proposed(report, {}, "model")
    make_suggestion("another phrase", batch=report.batch, proposer="model", confidence=-1.375)
    assert "1.375" not in page(client, report)
