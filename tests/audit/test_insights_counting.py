"""Each count on rows whose answer fits the docstring: empty, partial, unjudged, people who differ."""

from datetime import UTC, datetime, timedelta

import pytest

from audit.insights.counting import (
    Cell,
    DecisionRow,
    JudgmentRow,
    RunRow,
    ServedRow,
    ShownRow,
    VerdictRow,
    count_agreement,
    count_decisions,
    count_exploration,
    count_judgments,
    count_open,
    new_counts,
    run_cell,
    shared,
    spent_s,
)
from audit.insights.measures import Count

AT = datetime(2026, 5, 4, 9, tzinfo=UTC)
MODEL = Cell("visible", "forged", "en", "search", "3")
HUMAN = Cell("visible", "forged", "en", "human", "")


def decided(kind, query, suggested=None, *, s=0, **kwargs):
    values = {
        "cell": HUMAN if kind == "own" else MODEL,
        "at": AT + timedelta(seconds=s),
        "duration_ms": None,
        "has_run": True,
        "stands": True,
        "is_counted": True,
    }
    return DecisionRow(kind=kind, query=query, suggested=suggested, **(values | kwargs))


def summed(counts):
    """Measure → sum over cells, without zeros."""
    sums = {}
    for (_cell, measure), value in counts.items():
        sums[measure] = sums.get(measure, 0) + value
    return {measure: value for measure, value in sums.items() if value}


def decisions(rows, undecided=None):
    counts = new_counts()
    count_decisions(counts, rows, undecided or {})
    return summed(counts)


# --- decisions ------------------------------------------------------------------------------------------------------


def test_no_decision_counts_nothing():
    assert decisions([]) == {}


def test_an_edited_suggestion_is_accepted_and_has_a_line_of_its_own():
    """One accepted, one edited, one rejected: 2 of 3 accepted, 1 of them edited."""
    rows = [decided("accepted", 1, 1), decided("edited", 9, 2), decided("rejected", None, 3)]
    assert decisions(rows) == {
        Count.SUGGESTIONS_ACCEPTED: 1,
        Count.SUGGESTIONS_EDITED: 1,
        Count.SUGGESTIONS_REJECTED: 1,
    }


def test_a_suggestion_equal_to_a_human_query_counts_as_human_whatever_was_decided_on_it():
    """A person made query 1; the suggestions 1 (accepted) and 1 again (rejected) are equal to it, 2 is not."""
    rows = [decided("own", 1), decided("accepted", 1, 1), decided("rejected", None, 1), decided("accepted", 2, 2)]
    assert decisions(rows) == {
        Count.OWN_MADE: 1,
        Count.OWN_RUN: 1,
        Count.SUGGESTIONS_EQUAL: 2,
        Count.SUGGESTIONS_ACCEPTED: 1,
    }


def test_a_suggestion_is_equal_to_what_was_made_of_another_by_an_edit():
    """Suggestion 2 was edited into query 3, which suggestion 3 is: one edited, one equal."""
    rows = [decided("edited", 3, 2), decided("rejected", None, 3)]
    assert decisions(rows) == {Count.SUGGESTIONS_EDITED: 1, Count.SUGGESTIONS_EQUAL: 1}


def test_a_suggestion_nobody_decided_on_is_equal_too():
    assert decisions([decided("own", 1)], {1: MODEL, 2: MODEL})[Count.SUGGESTIONS_EQUAL] == 1


def test_an_own_query_that_was_taken_back_was_made_and_did_not_run():
    """Two made, one run: human acceptance 1 of 2. Nothing is equal to the one that was taken back."""
    rows = [decided("own", 1), decided("own", 2, stands=False, has_run=False), decided("rejected", None, 2)]
    assert decisions(rows) == {Count.OWN_MADE: 2, Count.OWN_RUN: 1, Count.SUGGESTIONS_REJECTED: 1}


def test_decisions_of_another_week_say_what_is_equal_and_are_not_counted():
    rows = [decided("own", 1, is_counted=False), decided("accepted", 1, 1)]
    assert decisions(rows) == {Count.SUGGESTIONS_EQUAL: 1}


def test_a_decision_takes_the_time_since_the_one_before():
    """All suggestions are seen from the start: 20 s, then 50 s of which 30 s are new, then 900 s cut at 300 s."""
    rows = [
        decided("accepted", 1, 1, s=20, duration_ms=20_000),
        decided("rejected", None, 2, s=50, duration_ms=50_000),
        decided("rejected", None, 3, s=950, duration_ms=950_000),
    ]
    found = decisions(rows)
    assert found[Count.DECISIONS_TIMED] == 3
    assert found[Count.DECISIONS_CLIPPED] == 1
    assert found[Count.DECISIONS_S] == 20 + 30 + 300
    assert found[Count.DECISIONS_S2] == 20**2 + 30**2 + 300**2


@pytest.mark.parametrize(
    ("duration_ms", "since", "seconds"),
    [
        (4_000, None, (4.0, False)),
        (4_000, 1.5, (1.5, False)),
        (4_000, -2.0, (0.0, False)),
        (300_001, None, (300.0, True)),
    ],
)
def test_time_spent(duration_ms, since, seconds):
    assert spent_s(duration_ms, since) == seconds


# --- explorations ---------------------------------------------------------------------------------------------------


def run(pk, cell=MODEL, *, live=10, state="items-1"):
    return RunRow(pk, cell, live, state)


def shown(run, *items):
    """Exposures of a run from rank 1 on: (item, verdict)."""
    return [ShownRow(run, rank, item, verdict) for rank, (item, verdict) in enumerate(items, start=1)]


def explored(runs, rows):
    counts = new_counts()
    count_exploration(counts, runs, rows)
    return counts


def test_a_run_without_a_match_is_a_run():
    found = summed(explored([run(1, live=0)], []))
    assert found == {Count.QUERIES_RUN: 1, Count.EXPLORED: 1}


def test_what_models_add_is_what_only_they_found():
    """People found {1, 2}, the model {2, 3, 4}: 2 of its items are new, so the increment is 2 over 2."""
    rows = shown(1, (1, "toxic"), (2, "toxic"), (9, "normal")) + shown(2, (2, "toxic"), (3, "toxic"), (4, "toxic"))
    found = summed(explored([run(1, HUMAN), run(2)], rows))
    assert (found[Count.FOUND_HUMAN], found[Count.FOUND_ADDED]) == (2, 2)
    assert (found[Count.FOUND_HUMAN_SQ], found[Count.FOUND_ADDED_SQ], found[Count.FOUND_CROSS]) == (4, 4, 4)
    assert (found[Count.HIT_HUMAN], found[Count.HIT_ADDED]) == (1, 1)


def test_an_item_that_a_query_found_twice_over_pages_is_one_item():
    rows = shown(1, (1, "toxic"), (1, "toxic"))
    assert summed(explored([run(1)], rows))[Count.FOUND_ADDED] == 1


def test_runs_on_another_state_of_the_index_are_not_compared():
    """The model's run met a rebuilt index: 1 item over 0 there, and 1 of people's own here."""
    rows = shown(1, (1, "toxic")) + shown(2, (1, "toxic"))
    found = summed(explored([run(1, HUMAN), run(2, state="items-2")], rows))
    assert found[Count.EXPLORED] == 2
    assert (found[Count.FOUND_HUMAN], found[Count.FOUND_ADDED]) == (1, 1)
    assert Count.FOUND_CROSS not in found


def test_credit_is_divided_among_the_queries_that_showed_an_item():
    """Item 1 by both (1/2 each), item 2 by the second alone: 0.5 and 1.5, together the two items."""
    rows = shown(1, (1, "toxic")) + shown(2, (1, "toxic"), (2, "toxic"))
    found = explored([run(1, HUMAN), run(2)], rows)
    assert (found[HUMAN, Count.CREDIT], found[MODEL, Count.CREDIT]) == (0.5, 1.5)
    assert (found[HUMAN, Count.ALONE], found[MODEL, Count.ALONE]) == (0, 1)
    sums = summed(found)
    assert sums[Count.CREDIT] == sums[Count.FOUND_HUMAN] + sums[Count.FOUND_ADDED]


def test_unjudged_and_disputed_exposures_are_counted_apart():
    """Of five shown: 1 toxic, 1 normal, 1 can't tell, 1 disputed, 1 that nobody judged."""
    rows = shown(1, (1, "toxic"), (2, "normal"), (3, "cant_tell"), (4, "disputed"), (5, ""))
    found = summed(explored([run(1)], rows))
    for count in (
        Count.SHOWN_TOXIC,
        Count.SHOWN_NORMAL,
        Count.SHOWN_CANT_TELL,
        Count.SHOWN_DISPUTED,
        Count.SHOWN_UNJUDGED,
    ):
        assert found[count] == 1


def test_judged_at_k_counts_results_on_unopened_pages_as_unjudged():
    """120 matches, 12 shown, 11 of them judged: 9 of the first 10 (rank 10 is not), 11 of the first 100."""
    rows = shown(1, *[(item, "" if item == 10 else "normal") for item in range(1, 13)])
    found = summed(explored([run(1, live=120)], rows))
    assert (found[Count.FIRST_10_JUDGED], found[Count.FIRST_10]) == (9, 10)
    assert (found[Count.FIRST_100_JUDGED], found[Count.FIRST_100]) == (11, 100)


def test_what_was_shown_was_there_even_where_the_engine_estimated_fewer():
    rows = shown(1, (1, "toxic"), (2, "toxic"), (3, ""))
    assert summed(explored([run(1, live=2)], rows))[Count.FIRST_10] == 3


def test_a_run_is_human_where_any_decision_is():
    model = ServedRow("model", "visible", "forged", "en", "search", "3")
    human = ServedRow("human", "visible", "forged", "en", "none", "")
    assert run_cell([model, human]) == HUMAN
    assert run_cell([model]) == MODEL


def test_a_run_for_reports_of_two_arms_is_of_neither():
    visible = ServedRow("model", "visible", "forged", "en", "search", "3")
    own_first = ServedRow("model", "own_first", "forged", "zh-Hans", "search", "2")
    assert run_cell([visible, own_first]) == Cell("mixed", "forged", "mixed", "search", "3")


def test_an_exploration_without_model_queries_is_of_no_suggester():
    found = explored([run(1, HUMAN)], shown(1, (1, "toxic")))
    assert found[Cell("visible", "forged", "en", "none", "none"), Count.FOUND_HUMAN] == 1


def test_shared_values():
    assert [shared(["a", "a"]), shared(["a", "b"]), shared([])] == ["a", "mixed", "none"]


# --- judgments ------------------------------------------------------------------------------------------------------


def judged(user, s, duration_ms):
    return JudgmentRow(user, AT + timedelta(seconds=s), duration_ms, MODEL)


def test_a_judgment_takes_the_time_since_the_persons_one_before():
    """Of one page: 5 s, then 12 s of which 7 s are new; another person's 9 s are their own; one was not timed."""
    counts = new_counts()
    count_judgments(counts, [judged(1, 5, 5_000), judged(1, 12, 12_000), judged(2, 14, 9_000), judged(2, 20, None)])
    found = summed(counts)
    assert (found[Count.JUDGMENTS_MADE], found[Count.JUDGMENTS_TIMED]) == (4, 3)
    assert found[Count.JUDGMENTS_S] == 5 + 7 + 9


# --- agreement ------------------------------------------------------------------------------------------------------


def agreed(*verdicts):
    counts = new_counts()
    count_agreement(counts, MODEL, [VerdictRow(*one) for one in verdicts])
    return summed(counts)


def test_one_person_agrees_with_nobody():
    assert agreed((1, "toxic", True), (1, "normal", True)) == {}


def test_two_people_make_a_pair_and_three_make_three():
    assert agreed((1, "toxic", True), (2, "toxic", True)) == {Count.BOTH_TOXIC: 1}
    assert agreed((1, "toxic", True), (2, "toxic", True), (3, "normal", True)) == {
        Count.BOTH_TOXIC: 1,
        Count.TOXIC_NORMAL: 2,
    }


def test_who_gives_in_later_did_disagree():
    assert agreed((1, "toxic", True), (2, "normal", True), (2, "toxic", True)) == {Count.TOXIC_NORMAL: 1}


def test_a_pair_is_of_the_week_of_its_later_verdict():
    assert agreed((1, "toxic", False), (2, "cant_tell", True)) == {Count.TOXIC_CANT_TELL: 1}
    assert agreed((1, "toxic", True), (2, "cant_tell", False)) == {}


# --- backlog --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("hours", "band"),
    [
        (0, Count.OPEN_UNDER_1_DAY),
        (24, Count.OPEN_1_TO_3_DAYS),
        (72, Count.OPEN_3_TO_7_DAYS),
        (7 * 24, Count.OPEN_7_TO_28_DAYS),
        (28 * 24, Count.OPEN_OVER_28_DAYS),
    ],
)
def test_bands_of_the_backlog_begin_at_their_age(hours, band):
    counts = new_counts()
    count_open(counts, MODEL, timedelta(hours=hours))
    assert counts[MODEL, band] == 1


def test_the_oldest_is_kept_beside_the_bands():
    counts = new_counts()
    for hours in (5, 50, 7):
        count_open(counts, MODEL, timedelta(hours=hours))
    assert counts[MODEL, Count.OPEN_OLDEST_H] == 50
