"""The exploration page: progress, opening pages, judging, races, what was judged before."""

import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.db import connection
from django.http import HttpResponse
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from audit.jobs import run_exploration
from audit.models import Exploration, Exposure, Item, ItemState, Judgment, Report, RunState, Verdict
from audit.presentation.results import ExplorationPage
from audit.services import explore, judge
from tests.audit.loop import explored, exposures_of, make_indexed, own
from tests.factories import (
    make_claimed_report,
    make_decision,
    make_exploration,
    make_exposure,
    make_item,
    make_judgment,
    make_run,
)

HTMX = {"HX-Request": "true"}


@pytest.fixture
def client(auditor: User, login: Callable[[User], Client]) -> Client:
    return login(auditor)


@pytest.fixture
def report(auditor: User, engine_file: Path) -> Report:
    """A confirmed report, and five items to find with "diploma" or "stamp"."""
    make_indexed(
        "forged diploma one", "forged diploma two", "a diploma with a stamp", "only a stamp", "nothing of that kind"
    )
    return make_claimed_report(user=auditor, text="diploma with stamp")


@pytest.fixture
def exploration(report: Report, auditor: User) -> Exploration:
    """Two queries, run, with the first page open."""
    return explored(report, auditor, "diploma", "stamp")


@pytest.fixture
def post(client: Client) -> Callable[..., HttpResponse]:
    def send(name: str, *args: object, htmx: bool = True, **data: Any) -> Any:
        values = {"key": str(uuid.uuid4())} | data
        return client.post(reverse(f"audit:{name}", args=args), values, headers=HTMX if htmx else {})

    return send


def place(exposure: Exposure) -> tuple[uuid.UUID, int, int]:
    query = exposure.run.exploration_query
    return query.exploration.public_id, query.position, exposure.rank


def page(client: Client, exploration: Exploration, **query: int) -> str:
    response = client.get(reverse("audit:exploration", args=[exploration.public_id]), query)
    assert response.status_code == 200
    return response.content.decode()


def test_a_running_exploration_polls_and_says_how_far_it_is(client: Client, report: Report, auditor: User) -> None:
    own(report, auditor, "diploma")
    exploration = explore(reports=[report], user=auditor, key=uuid.uuid4())
    assert "0 of 1 queries have run" in page(client, exploration)
    address = reverse("audit:progress", args=[exploration.public_id])
    assert client.get(address, headers=HTMX).status_code == 200
    run_exploration(exploration.pk)
    response = client.get(address, headers=HTMX)
    assert response.status_code == 286
    assert b"every 1s" not in response.content
    assert b"Show the results" in response.content


def test_looking_at_the_page_exposes_nothing(client: Client, report: Report, auditor: User) -> None:
    own(report, auditor, "diploma")
    exploration = explore(reports=[report], user=auditor, key=uuid.uuid4())
    run_exploration(exploration.pk)
    markup = page(client, exploration)
    assert not Exposure.objects.exists()
    assert "forged diploma one" not in markup


def test_opening_a_page_logs_its_exposures_once(
    report: Report, auditor: User, post: Callable[..., HttpResponse]
) -> None:
    own(report, auditor, "diploma")
    own(report, auditor, "stamp")
    exploration = explore(reports=[report], user=auditor, key=uuid.uuid4())
    run_exploration(exploration.pk)
    response = post("open-results", exploration.public_id, page=1)
    assert response.status_code == 200
    assert response.content.decode().count('class="result"') == 4
    assert Exposure.objects.count() == 5  # one item was found by both queries: shown once, logged for each
    post("open-results", exploration.public_id, page=1)
    assert Exposure.objects.count() == 5


def test_the_matched_phrase_is_marked_in_the_raw_text(client: Client, report: Report, auditor: User) -> None:
    make_indexed("加.微.信 now")
    exploration = explored(report, auditor, "加微信")
    assert "<mark>加.微.信</mark> now" in page(client, exploration)


def test_a_verdict_is_saved_and_shown_everywhere(exploration: Exploration, post: Callable[..., HttpResponse]) -> None:
    exposure = exposures_of(exploration)[0]
    response = post("judge", *place(exposure), verdict="toxic", duration_ms="900")
    markup = response.content.decode()
    assert response.status_code == 200
    assert 'data-verdict="toxic"' in markup
    assert "<b>1 of 4</b> judged: 1 toxic" in markup
    for part in ("query-rail", "progress", "toasts", "live"):
        assert f'id="{part}" hx-swap-oob' in markup
    exposure.item.refresh_from_db()
    assert exposure.item.state == ItemState.REMOVED
    assert Judgment.objects.get().duration_ms == 900


def test_a_verdict_among_the_results_of_one_query_stays_there(client: Client, exploration: Exploration) -> None:
    exposure = exposures_of(exploration)[0]
    headers = HTMX | {"HX-Current-URL": f"http://testserver/explorations/{exploration.public_id}/?query=2"}
    data = {"key": str(uuid.uuid4()), "verdict": "normal"}
    response = client.post(reverse("audit:judge", args=place(exposure)), data, headers=headers)
    assert "Results of “stamp”" in response.content.decode()


def test_a_verdict_without_script_leads_back_to_its_row(
    exploration: Exploration, post: Callable[..., HttpResponse]
) -> None:
    exposure = exposures_of(exploration)[0]
    response = post("judge", *place(exposure), htmx=False, verdict="normal")
    assert response.status_code == 303
    assert response["Location"].endswith(f"?page=1#exposure-{exposure.position}")


def test_a_verdict_that_is_none_is_422(exploration: Exploration, post: Callable[..., HttpResponse]) -> None:
    response = post("judge", *place(exposures_of(exploration)[0]), verdict="nasty")
    assert response.status_code == 422
    assert not Judgment.objects.exists()


def test_a_lost_race_is_409_with_the_other_verdict(
    exploration: Exploration, second_auditor: User, post: Callable[..., HttpResponse]
) -> None:
    exposure = exposures_of(exploration)[0]
    make_judgment(exposure=exposure, user=second_auditor, verdict="normal")
    response = post("judge", *place(exposure), verdict="toxic")
    assert response.status_code == 409
    assert b"judged it normal" in response.content
    assert Judgment.objects.count() == 1


def test_a_double_click_judges_once(exploration: Exploration, post: Callable[..., HttpResponse]) -> None:
    exposure, key = exposures_of(exploration)[0], str(uuid.uuid4())
    assert post("judge", *place(exposure), verdict="toxic", key=key).status_code == 200
    assert post("judge", *place(exposure), verdict="toxic", key=key).status_code == 409
    assert Judgment.objects.count() == 1


def test_an_undo_asks_again_and_brings_the_item_back(
    exploration: Exploration, post: Callable[..., HttpResponse]
) -> None:
    exposure = exposures_of(exploration)[0]
    post("judge", *place(exposure), verdict="toxic")
    response = post("undo-judgment", Judgment.objects.get().public_id)
    markup = response.content.decode()
    assert response.status_code == 200
    assert "data-todo" in markup
    assert "data-verdict" not in markup
    exposure.item.refresh_from_db()
    assert exposure.item.state == ItemState.LIVE


def test_an_undo_from_the_history_returns_there(exploration: Exploration, post: Callable[..., HttpResponse]) -> None:
    post("judge", *place(exposures_of(exploration)[0]), verdict="toxic")
    response = post("undo-judgment", Judgment.objects.get().public_id, htmx=False, **{"from": "history"})
    assert response["Location"] == reverse("audit:history")


def test_what_was_judged_before_is_folded_and_not_asked_again(
    client: Client, report: Report, auditor: User, post: Callable[..., HttpResponse]
) -> None:
    first = explored(report, auditor, "diploma")
    exposure = next(one for one in exposures_of(first) if one.item_text.text == "forged diploma one")
    judge(exposure=exposure, user=auditor, verdict=Verdict.NORMAL, key=uuid.uuid4())
    second = explored(report, auditor, "forged diploma")
    shown = ExplorationPage(second, auditor)
    assert [row.exposure.item for row in shown.judged_before] == [exposure.item]
    assert shown.progress.shown == 1
    markup = page(client, second)
    assert "1 result was judged before" in markup
    assert markup.count("/judge/") == 2 * shown.progress.shown  # each form names its address twice


def test_the_results_of_one_query_can_be_picked(client: Client, exploration: Exploration) -> None:
    markup = page(client, exploration, query=2)
    assert "Results of “stamp”" in markup
    assert "forged diploma one" not in markup
    assert "only a" in markup


def test_others_can_read_but_not_judge(
    exploration: Exploration, second_auditor: User, login: Callable[[User], Client]
) -> None:
    client = login(second_auditor)
    markup = page(client, exploration)
    assert "works on it. You can read it." in markup
    assert "/judge/" not in markup
    address = reverse("audit:judge", args=place(exposures_of(exploration)[0]))
    response = client.post(address, {"key": str(uuid.uuid4()), "verdict": "toxic"}, headers=HTMX)
    assert response.status_code == 409
    assert not Judgment.objects.exists()


def test_others_verdicts_show_only_after_ones_own(
    client: Client, exploration: Exploration, auditor: User, second_auditor: User
) -> None:
    exposure = exposures_of(exploration)[0]
    make_judgment(exposure=exposure, user=auditor, verdict="toxic")
    make_judgment(exposure=exposure, user=second_auditor, verdict="normal")
    markup = page(client, exploration)
    assert "it counts as unjudged until you agree" in markup
    assert "judged it normal" not in markup


def test_a_failed_query_is_named_and_can_run_again(
    client: Client, exploration: Exploration, post: Callable[..., HttpResponse]
) -> None:
    place_of = exploration.queries.last()
    assert place_of is not None
    exploration.queries.filter(pk=place_of.pk).update(state=RunState.FAILED, error="The search took too long.")
    Exploration.objects.update(state=RunState.FAILED)
    markup = page(client, exploration)
    assert "The search took too long." in markup
    assert "Run again what failed" in markup
    assert post("run-again", exploration.public_id, htmx=False).status_code == 303


def test_nothing_new_says_so(client: Client, report: Report, auditor: User) -> None:
    exploration = explored(report, auditor, "no such words")
    assert "found nothing that was not judged before" in page(client, exploration)


def test_an_item_that_is_gone_or_edited_says_so(client: Client, exploration: Exploration) -> None:
    first, second = exposures_of(exploration)[:2]
    first.item.state = ItemState.GONE
    first.item.save()
    second.item.text = make_item("new words").text
    second.item.save()
    markup = page(client, exploration)
    assert "It left the platform" in markup
    assert "edited since" in markup


def test_the_detail_is_a_fragment_and_leads_to_the_item_without_script(
    client: Client, exploration: Exploration
) -> None:
    exposure = exposures_of(exploration)[0]
    address = reverse("audit:detail", args=place(exposure))
    assert b"query 1 at rank 1" in client.get(address, headers=HTMX).content
    assert client.get(address)["Location"] == reverse("audit:item", args=[exposure.item.public_id])


def test_an_exposure_that_was_not_logged_is_404(client: Client, exploration: Exploration) -> None:
    assert client.get(reverse("audit:detail", args=[exploration.public_id, 1, 99])).status_code == 404


@pytest.mark.parametrize("number", ["0", "-1", "²", "x", "99999999999999999999", "2"])
def test_a_page_that_cannot_be_is_never_an_error_page(client: Client, exploration: Exploration, number: str) -> None:
    assert client.get(reverse("audit:exploration", args=[exploration.public_id]), {"page": number}).status_code == 200
    response = client.post(
        reverse("audit:open-results", args=[exploration.public_id]), {"key": str(uuid.uuid4()), "page": number}
    )
    assert response.status_code in {303, 409}


def test_the_next_page_is_offered_while_pages_are_full(client: Client, auditor: User) -> None:
    decision = make_decision(report=make_claimed_report(user=auditor), user=auditor)
    exploration = make_exploration(decisions=[decision], pages_opened=1)
    run = make_run(exploration_query=exploration.queries.get(), items=[make_item() for _ in range(settings.PAGE_SIZE)])
    for item_id, _risk in run.ranking:
        make_exposure(run=run, item=Item.objects.get(pk=item_id))
    assert "Next page" in page(client, exploration)


def test_the_number_of_queries_does_not_grow_with_the_results(client: Client, report: Report, auditor: User) -> None:
    def count(exploration: Exploration) -> int:
        with CaptureQueriesContext(connection) as captured:
            page(client, exploration)
        return len(captured)

    few = explored(report, auditor, "only a stamp")
    make_indexed(*(f"certificate number {number}" for number in range(20)))
    many = explored(report, auditor, "certificate", "certificate number")
    count(few)
    assert count(many) == count(few)
    assert count(many) <= 30
