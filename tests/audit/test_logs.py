from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from audit.logs import FLAT, STREAMS, Privacy, Pseudonyms, Window, get_stream
from audit.logs.dictionary import digest
from tests import factories as make

pytestmark = pytest.mark.django_db

PRIVACY = Privacy(Pseudonyms("one secret"))
ALWAYS = Window()
NOON = datetime(2026, 3, 12, 12, tzinfo=UTC)


def rows(name, window=ALWAYS, privacy=PRIVACY):
    return list(get_stream(name).rows(privacy, window))


@pytest.fixture
def loop():
    """A report, an accepted suggestion, its run, two exposures, one of them judged toxic and removed."""
    return Loop()


class Loop:
    def __init__(self):
        self.policy = make.make_policy("forged-papers")
        self.auditor = make.make_user("ana")
        self.report = make.make_claimed_report(user=self.auditor, policy=self.policy, text="假文凭 加微信")
        make.make_complaint(report=self.report)
        self.suggestion = make.make_suggestion("假文凭", report=self.report)
        self.decision = make.make_decision(suggestion=self.suggestion, user=self.auditor)
        self.found = make.make_item("卖假文凭", author_key="seller")
        self.other = make.make_item("防骗：假文凭")
        self.exploration = make.make_exploration(decisions=[self.decision])
        self.place = self.exploration.queries.get()
        self.run = make.make_run(exploration_query=self.place, items=[self.found, self.other], removed=3)
        self.exposure = make.make_exposure(run=self.run, item=self.found, at=NOON)
        self.second = make.make_exposure(run=self.run, item=self.other, at=NOON)
        self.judgment = make.make_judgment(exposure=self.exposure, user=self.auditor, at=NOON + timedelta(minutes=1))
        self.removal = make.make_removal(judgment=self.judgment, at=NOON + timedelta(minutes=1))

    def flat(self, exposure=None, privacy=PRIVACY):
        wanted = (exposure or self.exposure).pk
        return next(row for row in FLAT.rows(privacy) if row["exposure_id"] == wanted)


# --- the chain ------------------------------------------------------------------------------------------------------


def test_flat_row_holds_the_chain_from_report_to_removal(loop):
    row = loop.flat()
    expected = {
        "report_ids": [loop.report.pk],
        "report_policies": ["forged-papers"],
        "report_item_ids": [loop.report.item_id],
        "report_text_hashes": [loop.report.item_text.text_hash],
        "report_complaint_counts": [1],
        "suggestion_ids": [loop.suggestion.pk],
        "suggesters": ["search"],
        "suggester_versions": ["1/r1"],
        "decision_ids": [loop.decision.pk],
        "decision_uuids": [str(loop.decision.public_id)],
        "decision_kinds": ["accepted"],
        "decision_arms": ["visible"],
        "decision_durations_ms": [2400],
        "shown_ranks": [1],
        "forecast_matches": [12],
        "forecast_past_toxic": [3],
        "forecast_past_judged": [4],
        "source": "model",
        "query_text": "假文凭",
        "query_key": "假 文 凭",
        "query_mode": "phrase",
        "exploration_id": loop.exploration.pk,
        "run_id": loop.run.pk,
        "engine": "fts5",
        "index_generation": "items-1",
        "risk_version": 1,
        "run_live": 2,
        "run_removed": 3,
        "rank": 1,
        "position": 1,
        "exposed_at": NOON,
        "item_id": loop.found.pk,
        "item_state": "removed",
        "text_hash": loop.found.text.text_hash,
        "language": "zh-Hans",
        "verdict": "toxic",
        "is_hit": True,
        "is_disputed": False,
        "judgment_id": loop.judgment.pk,
        "judgment": "toxic",
        "judged_at": NOON + timedelta(minutes=1),
        "judge": PRIVACY.user(loop.auditor.pk),
        "judgment_policy": "forged-papers",
        "judgment_policy_version": 1,
        "judgments_undone": 0,
        "removed_at": NOON + timedelta(minutes=1),
        "removal_judgment_id": loop.judgment.pk,
        "reinstated_at": None,
    }
    assert {name: row[name] for name in expected} == expected


def test_exposure_without_a_verdict_is_unjudged_and_no_hit(loop):
    row = loop.flat(loop.second)
    assert (row["verdict"], row["is_hit"], row["judgment_id"], row["removed_at"]) == (None, False, None, None)


def test_every_column_is_in_every_row_in_its_order(loop):
    for name, stream in STREAMS.items():
        for row in rows(name):
            assert list(row) == stream.column_names


def test_no_item_text_is_in_any_stream(loop):
    texts = {item.text.text for item in (loop.report.item, loop.found, loop.other)}
    for name in STREAMS:
        written = repr(rows(name))
        assert not any(text in written for text in texts), name


def test_people_appear_as_pseudonyms_only(loop):
    complaint = loop.report.complaints.get()
    make.make_report_event(report=loop.report, user=loop.auditor)
    written = "".join(repr(rows(name)) for name in STREAMS)
    for secret in ("ana", "seller", complaint.reporter_key):
        assert f"'{secret}'" not in written
    assert PRIVACY.author("market", "seller") in written
    assert PRIVACY.reporter("market", complaint.reporter_key) in written


# --- judgments ------------------------------------------------------------------------------------------------------


def test_undone_judgment_leaves_the_exposure_unjudged(loop):
    make.make_judgment(undoes=loop.judgment)
    row = loop.flat()
    assert (row["verdict"], row["is_hit"], row["judgment_id"], row["judgments_undone"]) == (None, False, None, 1)


def test_judgment_after_an_undo_counts(loop):
    make.make_judgment(undoes=loop.judgment)
    again = make.make_judgment(exposure=loop.exposure, verdict="normal", user=loop.auditor)
    row = loop.flat()
    assert (row["verdict"], row["judgment_id"], row["judgments_undone"]) == ("normal", again.pk, 1)


def test_every_exposure_of_a_text_inherits_its_standing_verdict(loop):
    again = make.make_exposure(item=loop.found)
    row = loop.flat(again)
    assert (row["verdict"], row["is_hit"], row["verdict_judgment_id"]) == ("toxic", True, loop.judgment.pk)
    assert row["judgment_id"] is None


def test_older_text_of_an_edited_item_keeps_its_own_verdict(loop):
    loop.found.text = make.make_item_text("something else now", item=loop.found)
    loop.found.save()
    row = loop.flat(make.make_exposure(item=loop.found))
    assert (row["verdict"], row["is_hit"]) == (None, False)
    assert loop.flat()["is_hit"] is True


def test_disagreement_counts_as_unjudged(loop):
    make.make_judgment(exposure=loop.exposure, verdict="normal", user=make.make_user())
    row = loop.flat()
    assert (row["verdict"], row["is_hit"], row["is_disputed"]) == (None, False, True)


def test_toxic_under_one_policy_is_toxic(loop):
    normal = make.make_judgment(exposure=loop.exposure, verdict="normal", policy_version=make.make_policy_version())
    row = loop.flat()
    assert (row["verdict"], row["is_hit"], row["verdict_policy"]) == ("toxic", True, "forged-papers")
    assert row["judgment_id"] == normal.pk


def test_reinstated_item_shows_both_times(loop):
    make.make_removal(item=loop.found, kind="reinstated", at=NOON + timedelta(hours=1))
    row = loop.flat()
    assert (row["removed_at"], row["reinstated_at"]) == (NOON + timedelta(minutes=1), NOON + timedelta(hours=1))
    assert row["item_state"] == "live"


# --- credit ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def two_reports(loop):
    """The query of the first report, marked by an auditor in a second one too; both served by one run."""
    own = make.make_decision(
        report=make.make_report(policy=make.make_policy("companions")), text="假 文凭", user=loop.auditor
    )
    loop.place.decisions.add(own)
    return loop, own


def test_run_that_serves_two_reports_credits_both_in_one_row(two_reports):
    loop, own = two_reports
    row = loop.flat()
    assert row["decision_ids"] == [loop.decision.pk, own.pk]
    assert row["report_ids"] == [loop.report.pk, own.report_id]
    assert row["decision_kinds"] == ["accepted", "own"]
    assert row["shown_ranks"] == [1, None]
    assert row["suggesters"] == ["search", None]
    assert (row["decision_count"], row["report_count"]) == (2, 2)
    assert [row["exposure_id"] for row in rows("flat")] == [loop.exposure.pk, loop.second.pk]


def test_query_that_a_person_also_made_counts_as_human(two_reports):
    loop, _own = two_reports
    assert loop.flat()["source"] == "human"
    assert loop.flat()["decision_sources"] == ["model", "human"]


def test_lists_of_a_row_are_of_one_length(two_reports):
    loop, _own = two_reports
    assert {len(value) for value in loop.flat().values() if isinstance(value, list)} == {2}


def test_two_decisions_of_one_report_are_one_report(loop):
    loop.place.decisions.add(make.make_decision(report=loop.report, text="假文凭"))
    row = loop.flat()
    assert (row["decision_count"], row["report_count"], row["report_ids"]) == (2, 1, [loop.report.pk] * 2)


def test_decision_taken_back_is_marked(loop):
    undo = make.make_decision(undoes=loop.decision)
    assert loop.flat()["decision_undone_by_ids"] == [undo.pk]


# --- streams --------------------------------------------------------------------------------------------------------


def test_rejected_suggestions_and_runs_without_matches_are_in_their_streams(loop):
    rejected = make.make_decision(suggestion=make.make_suggestion("钢印", report=loop.report), kind="rejected")
    empty = make.make_run(exploration_query=make.make_exploration().queries.get())
    row = next(row for row in rows("decisions") if row["decision_id"] == rejected.pk)
    assert (row["kind"], row["query_id"], row["query_text"], row["query_key"]) == ("rejected", None, None, None)
    assert [row["live"] for row in rows("runs") if row["run_id"] == empty.pk] == [0]


def test_run_lists_its_ranking_and_the_reports_it_serves(two_reports):
    loop, own = two_reports
    (row,) = rows("runs")
    assert row["item_ids"] == [loop.found.pk, loop.other.pk]
    assert row["report_ids"] == [loop.report.pk, own.report_id]


def test_judgments_and_what_takes_them_back_are_rows_of_their_own(loop):
    undo = make.make_judgment(undoes=loop.judgment)
    taken, taking = rows("judgments")
    assert (taken["verdict"], taken["undone_by_id"], taken["undoes_id"]) == ("toxic", undo.pk, None)
    assert (taking["verdict"], taking["undone_by_id"], taking["undoes_id"]) == (None, None, loop.judgment.pk)


def test_outbox_tells_its_number_once_published(loop):
    make.make_outbox_event(item=loop.found, sequence=7, kind="verdict", payload={"verdict": "toxic", "policy": "p"})
    make.make_outbox_event(item=loop.found, payload={"reason": "call 13800138000"})
    published, waiting = rows("outbox")
    assert (published["sequence"], published["verdict"], published["policy"]) == (7, "toxic", "p")
    assert (waiting["sequence"], waiting["reason"]) == (None, "call ‹phone›")


def test_typed_texts_are_masked(loop):
    make.make_complaint(report=loop.report, reason="他的微信是 13800138000")
    make.make_judgment(exposure=loop.second, reason="see t.me/abc")
    assert rows("complaints")[-1]["reason"] == "他的微信是 ‹phone›"
    assert rows("judgments")[-1]["reason"] == "see ‹url›"


def test_masks_can_be_taken_off(loop):
    make.make_complaint(report=loop.report, reason="他的微信是 13800138000")
    bare = Privacy(Pseudonyms("one secret"), is_masked=False)
    assert rows("complaints", privacy=bare)[-1]["reason"] == "他的微信是 13800138000"
    assert rows("reports", privacy=bare)[0]["external_id"] == loop.report.item.external_id
    assert rows("reports")[0]["external_id"] != loop.report.item.external_id


# --- windows and chunks ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("since", "until", "inside"),
    [
        (NOON, None, True),
        (NOON + timedelta(microseconds=1), None, False),
        (None, NOON, False),
        (None, NOON + timedelta(microseconds=1), True),
    ],
)
def test_window_holds_its_beginning_and_not_its_end(since, until, inside):
    make.make_exposure(at=NOON)
    assert len(rows("flat", Window(since, until))) == inside


def test_complaint_counts_from_when_it_came_in():
    make.make_complaint(at=NOON - timedelta(days=30), imported=NOON)
    assert len(rows("complaints", Window(since=NOON - timedelta(days=1)))) == 1


@pytest.mark.parametrize("name", sorted(STREAMS))
def test_chunks_of_any_size_give_the_same_rows(loop, name):
    for _number in range(4):
        make.make_exposure(run=loop.run)
        make.make_complaint(report=loop.report)
    stream = get_stream(name)
    in_twos = [row for chunk in stream.chunks(PRIVACY, size=2) for row in chunk.rows]
    assert in_twos == list(stream.rows(PRIVACY))


def test_number_of_database_queries_does_not_grow_with_the_rows(loop):
    def queries():
        with CaptureQueriesContext(connection) as found:
            rows("flat")
        return len(found)

    before = queries()
    for _number in range(20):
        make.make_exposure(run=loop.run)
    assert queries() == before


# --- declarations ---------------------------------------------------------------------------------------------------


def test_every_arrow_of_the_loop_is_a_stream():
    arrows = (
        "reports complaints report_events suggestions decisions explorations runs exposures judgments removals outbox"
    )
    assert set(arrows.split()) < set(STREAMS)


@pytest.mark.parametrize("name", sorted(STREAMS))
def test_columns_are_declared_once_and_with_a_sentence(name):
    stream = get_stream(name)
    assert len(set(stream.column_names)) == len(stream.columns)
    assert all(column.about.endswith(".") for column in stream.columns)


def test_digest_changes_with_the_meaning_of_a_column():
    changed = replace(FLAT, columns=(replace(FLAT.columns[0], about="Something else."), *FLAT.columns[1:]))
    assert digest(changed) != digest(FLAT)
