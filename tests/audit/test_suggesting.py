import pytest
from django_rq import get_queue

from audit.indexing import index_items
from audit.jobs import refresh_suggestions, suggest_for_report
from audit.models import Item, Proposer, Report, ReportStatus, SuggesterSwitch, Suggestion, SuggestionsState, Verdict
from audit.risk_training import refit
from audit.services import claim, decide, judge
from audit.suggesting import is_on, is_stale, suggest
from extraction.models import AdapterPromotion, AdapterRole
from extraction.text import MatchMode, get_analysis
from tests.audit.loop import confirm, explored, exposures_of, key, make_indexed, pending
from tests.audit.models_at_work import at_work, written
from tests.factories import (
    make_item,
    make_judgment,
    make_policy,
    make_policy_version,
    make_report,
)

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("engine_file")]

WORDS = ["one", "two", "three", "four", "five", "six"]
CAMPAIGN = [f"formal certifcate with steel stamp, offer {word}" for word in WORDS]
TRADE = [f"used bicycle with steel frame, offer {word}" for word in WORDS]


JUDGED = [
    ("formal certifcate with steel stamp, seen last week", Verdict.TOXIC),
    ("formal certifcate, real steel stamp", Verdict.TOXIC),
    ("formal certifcate by post", Verdict.TOXIC),
    ("used bicycle, light frame", Verdict.NORMAL),
    ("steel frame for a bicycle", Verdict.NORMAL),
    ("used books, offer", Verdict.NORMAL),
]


@pytest.fixture(autouse=True)
def _empty_queue():
    get_queue("suggest").empty()


@pytest.fixture
def corpus():
    """A small campaign among ordinary trade, indexed, and a risk model that has learned which is which."""
    make_indexed(*CAMPAIGN, *TRADE)
    for text, verdict in JUDGED:
        make_judgment(item_text=make_item(text).text, verdict=verdict)
    report = make_report(text="formal certifcate with steel stamp, call now")
    index_items([report.item_id])
    refit()
    return Report.objects.get(pk=report.pk)


def test_every_suggestion_stands_verbatim_in_the_text(corpus):
    suggest(corpus)
    for suggestion in Suggestion.objects.all():
        assert corpus.item_text.text[suggestion.span_start : suggestion.span_end] == suggestion.text


def test_suggestions_find_the_campaign(corpus):
    suggest(corpus)
    corpus.refresh_from_db()
    assert corpus.suggestions_state == SuggestionsState.READY
    first = pending(corpus)[0]
    assert first.matches == len(CAMPAIGN)
    assert first.unseen == len(CAMPAIGN)
    assert "bicycle" not in first.text


def test_a_text_that_finds_nothing_gets_no_suggestion_and_says_so(corpus):
    lonely = make_report(text="zebra umbrella quartz")
    suggest(lonely)
    lonely.refresh_from_db()
    assert lonely.suggestions_state == SuggestionsState.NONE
    assert lonely.batch.tried > 0


def test_what_was_seen_counts_less(corpus, auditor):
    confirm(corpus, auditor)
    exploration = explored(corpus, auditor, "formal certifcate")
    assert len(exposures_of(exploration)) == len(CAMPAIGN)
    other = make_report(text="formal certifcate with steel stamp, write now")
    suggest(other)
    assert all(found.unseen == 0 for found in other.suggestions.all() if "certifcate" in found.text)


def test_past_precision_counts_removed_items_too(corpus, auditor):
    confirm(corpus, auditor)
    exploration = explored(corpus, auditor, "formal certifcate")
    exposures = exposures_of(exploration)
    for exposure in exposures[:4]:
        judge(exposure=exposure, user=auditor, verdict=Verdict.TOXIC, key=key())
    judge(exposure=exposures[4], user=auditor, verdict=Verdict.NORMAL, key=key())
    index_items(list(Item.objects.values_list("pk", flat=True)))
    for text in ("a formal certifcate with bonus", "one more formal certifcate"):
        index_items([make_item(text).pk])
    other = make_report(text="formal certifcate by post")
    suggest(other)
    found = next(s for s in other.suggestions.all() if s.query.key == "formal certifcate")
    assert (found.past_toxic, found.past_judged) == (8, 9)  # the earlier three and the report count too


def test_a_report_on_a_screen_keeps_its_batch(corpus, auditor):
    suggest(corpus)
    corpus.refresh_from_db()
    shown = corpus.batch
    claim(report=corpus, user=auditor, key=key())
    suggest(corpus)
    corpus.refresh_from_db()
    assert corpus.batch == shown


def test_a_refresh_queues_the_waiting_reports_whose_batch_is_stale(corpus):
    suggest(corpus)
    refit()
    refresh_suggestions()
    assert f"suggest-{corpus.pk}" in get_queue("suggest").job_ids


def test_a_new_batch_replaces_the_old_one_and_leaves_it_in_the_log(corpus):
    old = suggest(corpus)
    refit()
    suggest_for_report(corpus.pk)
    corpus.refresh_from_db()
    assert corpus.batch != old
    assert old.suggestions.exists()


def test_a_refresh_leaves_a_batch_that_is_not_stale(corpus):
    suggest(corpus)
    refresh_suggestions()
    assert f"suggest-{corpus.pk}" not in get_queue("suggest").job_ids


def test_a_new_risk_model_makes_a_batch_stale(corpus):
    batch = suggest(corpus)
    assert not is_stale(batch)
    refit()
    assert is_stale(batch)


def test_a_new_policy_wording_makes_a_batch_stale(corpus):
    batch = suggest(corpus)
    make_policy_version(policy=corpus.policy)
    assert is_stale(batch)


def test_a_rejection_makes_a_batch_stale(corpus, auditor):
    batch = suggest(corpus)
    confirm(corpus, auditor)
    corpus.refresh_from_db()
    decide(suggestion=pending(corpus)[0], user=auditor, kind="rejected", key=key())
    assert is_stale(batch)


def test_a_switched_off_suggester_proposes_nothing(corpus):
    SuggesterSwitch.objects.create(suggester="search", is_on=False)
    assert suggest(corpus) is None
    corpus.refresh_from_db()
    assert corpus.suggestions_state == SuggestionsState.OFF


def test_the_switch_of_a_policy_beats_that_of_the_site():
    policy, other = make_policy(), make_policy()
    SuggesterSwitch.objects.create(suggester="search", is_on=False)
    SuggesterSwitch.objects.create(suggester="search", policy=policy, is_on=True)
    assert is_on("search", policy.pk)
    assert not is_on("search", other.pk)


def test_the_job_fits_a_first_model_by_itself():
    make_indexed(*(f"used bicycle {number} with bell and lamp {number + 1}" for number in range(200)))
    report = make_report(text="formal certifcate with steel stamp, call now")
    make_indexed(*CAMPAIGN)
    suggest_for_report(report.pk)
    report.refresh_from_db()
    assert report.suggestions_state == SuggestionsState.READY


def test_without_an_engine_the_report_waits_for_another_try(settings, tmp_path, corpus):
    settings.SEARCH_FILE = tmp_path / "nowhere" / "search.sqlite3"
    suggest_for_report(corpus.pk)
    corpus.refresh_from_db()
    assert corpus.suggestions_state == SuggestionsState.FAILED
    assert corpus.batch is None


def test_a_closed_report_gets_no_suggestion():
    assert suggest(make_report(status=ReportStatus.CLOSED)) is None


def test_a_query_names_the_analysis_of_its_index(corpus):
    suggest(corpus)
    for suggestion in Report.objects.get(pk=corpus.pk).suggestions.select_related("query"):
        query = suggestion.query
        assert query.key == get_analysis(query.analysis).key(query.text, MatchMode(query.mode))


# --- with a language model


def proposers(report: Report) -> dict[str, str]:
    """phrase → who proposed it, of the shown batch."""
    report.refresh_from_db()
    return {suggestion.text: suggestion.proposer for suggestion in pending(report)}


def test_a_report_that_no_model_has_read_gets_the_suggestions_of_search_at_once(corpus):
    at_work()
    batch = suggest(corpus)
    assert (batch.suggester, batch.suggester_version, batch.adapter, batch.adapter_role) == ("search", "1", None, "")
    assert set(proposers(corpus).values()) == {Proposer.SEARCH}


def test_the_models_queries_are_added_and_marked(corpus):
    adapter = at_work("dpo-14")
    written(corpus, adapter, "formal certifcate with steel stamp, call", "steel stamp")
    batch = suggest(corpus)
    assert (batch.suggester, batch.suggester_version) == ("search+llm", "1+dpo-14")
    assert (batch.adapter, batch.adapter_role) == (adapter, AdapterRole.SERVING)
    found = Suggestion.objects.filter(batch=batch)
    assert {one.proposer for one in found if one.confidence is not None} <= {Proposer.MODEL, Proposer.BOTH}
    assert all(one.proposer == Proposer.SEARCH for one in found if one.confidence is None)


def test_a_phrase_that_both_propose_is_tried_once_and_marked_as_of_both(corpus):
    first = suggest(corpus)
    phrase = pending(Report.objects.get(pk=corpus.pk))[0].text
    written(corpus, at_work(), phrase, confidence=-0.25)
    batch = suggest(corpus)
    assert batch.tried == first.tried
    assert proposers(corpus)[phrase] == Proposer.BOTH
    assert batch.suggestions.get(text=phrase).confidence == -0.25


def test_a_phrase_that_only_the_model_proposes_is_marked_as_its_own(corpus):
    SuggesterSwitch.objects.create(suggester="search", is_on=False)
    written(corpus, at_work("sft-3"), "certifcate with steel stamp")
    batch = suggest(corpus)
    assert (batch.suggester, batch.suggester_version, batch.tried) == ("llm", "1+sft-3", 1)
    assert proposers(corpus) == {"certifcate with steel stamp": Proposer.MODEL}


def test_with_search_off_a_report_waits_for_the_model(corpus):
    SuggesterSwitch.objects.create(suggester="search", is_on=False)
    at_work()
    assert suggest(corpus) is None
    corpus.refresh_from_db()
    assert corpus.suggestions_state == SuggestionsState.PENDING


def test_a_model_that_is_switched_off_for_a_policy_proposes_nothing_there(corpus):
    SuggesterSwitch.objects.create(suggester="llm", policy=corpus.policy, is_on=False)
    written(corpus, at_work(), "steel stamp")
    assert suggest(corpus).suggester == "search"


def test_with_both_switched_off_nothing_is_suggested(corpus):
    for suggester in ("search", "llm"):
        SuggesterSwitch.objects.create(suggester=suggester, is_on=False)
    written(corpus, at_work(), "steel stamp")
    assert suggest(corpus) is None
    corpus.refresh_from_db()
    assert corpus.suggestions_state == SuggestionsState.OFF


def test_a_model_that_proposes_nothing_leaves_search_alone_but_named(corpus):
    written(corpus, at_work("dpo-14"))
    assert suggest(corpus).suggester_version == "1+dpo-14"
    assert set(proposers(corpus).values()) == {Proposer.SEARCH}


def test_a_challengers_queries_carry_its_role(corpus):
    written(corpus, at_work(), "steel stamp")
    challenger = at_work(role=AdapterRole.CHALLENGER)
    written(corpus, challenger, "steel stamp")
    batch = suggest(corpus)
    assert (batch.adapter, batch.adapter_role) == (challenger, AdapterRole.CHALLENGER)


def test_a_shadows_queries_are_shown_to_nobody(corpus):
    written(corpus, at_work(role=AdapterRole.SHADOW), "steel stamp")
    assert suggest(corpus).suggester == "search"


def test_what_a_model_writes_makes_a_batch_of_search_stale(corpus):
    adapter = at_work()
    batch = suggest(corpus)
    assert not is_stale(batch)
    written(corpus, adapter, "steel stamp")
    assert is_stale(batch)


def test_a_new_adapter_makes_a_batch_stale_once_it_has_read_the_text(corpus):
    written(corpus, at_work(), "steel stamp")
    batch = suggest(corpus)
    successor = at_work()
    assert not is_stale(batch)
    written(corpus, successor, "steel stamp")
    assert is_stale(batch)


def test_a_new_risk_model_makes_the_batch_of_an_earlier_adapter_stale(corpus):
    written(corpus, at_work(), "steel stamp")
    batch = suggest(corpus)
    at_work()
    refit()
    assert is_stale(batch)


def test_an_adapter_that_left_its_role_makes_its_batch_stale(corpus):
    written(corpus, at_work(), "steel stamp")
    batch = suggest(corpus)
    AdapterPromotion.objects.create(adapter=None)
    assert is_stale(batch)
    assert suggest(corpus).suggester == "search"


def test_a_switch_makes_a_batch_stale(corpus):
    batch = suggest(corpus)
    switch = SuggesterSwitch.objects.create(suggester="search", is_on=False)
    assert is_stale(batch)
    suggest(corpus)
    batch.report.refresh_from_db()
    assert not is_stale(batch)
    switch.delete()
    assert is_stale(batch)


def test_what_a_model_writes_never_changes_a_screen(corpus, auditor):
    adapter = at_work()
    shown = suggest(corpus)
    claim(report=corpus, user=auditor, key=key())
    written(corpus, adapter, "steel stamp")
    suggest(corpus)
    corpus.refresh_from_db()
    assert corpus.batch == shown
