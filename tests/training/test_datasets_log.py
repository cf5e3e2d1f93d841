"""What the log says: which decisions make pairs, and p(k|S) counted by hand."""

import random
from datetime import datetime

import pytest

from audit.append_only import maintenance_pass
from audit.models import (
    DecisionKind,
    ItemText,
    ReportEventKind,
    StandingVerdict,
    Verdict,
)
from extraction.text import MatchMode, get_analysis
from tests.factories import (
    make_adapter,
    make_batch,
    make_decision,
    make_evaluation_set,
    make_item,
    make_item_text,
    make_judgment,
    make_policy,
    make_policy_version,
    make_pool_item,
    make_query,
    make_removal,
    make_report,
    make_report_event,
    make_suggestion,
    make_user,
)
from tests.training.small_log import APRIL, JUNE, MARCH, MAY, accepted, confirmed, decided, exposed, own, run_of, show
from training.datasets.log import Log, standing_verdicts
from training.datasets.pairs import DropReason, Drops, Evidence, Pair
from training.datasets.policy import ReportedText

pytestmark = pytest.mark.django_db

TEXT = "低价代开发票请加微信详谈"


def read(until: datetime = MAY, **kwargs) -> tuple[list[Pair], dict[DropReason, int]]:
    drops = Drops()
    log = Log(until, get_analysis(), kwargs.pop("excluded", None), lambda _step, _count: None)
    return list(log.pairs(drops)), dict(drops)


def phrases(until: datetime = MAY, **kwargs) -> list[str]:
    return [pair.phrase for pair in read(until, **kwargs)[0]]


def evidence(until: datetime = MAY) -> Evidence:
    """That of the only pair."""
    (pair,) = read(until)[0]
    return pair.evidence


def erase(text: ItemText) -> None:
    with maintenance_pass("erasure"):
        ItemText.objects.filter(pk=text.pk).update(text="")


# --- which decisions ------------------------------------------------------------------------------------------------


def test_accepted_edited_and_own_queries_are_pairs():
    report = confirmed(TEXT, policy=make_policy("fraud"))
    first = accepted(report, "代开发票")
    decided(report, "加微信详谈", DecisionKind.EDITED, suggested="加微信")
    own(report, "低价代开")
    decided(report, "发票", DecisionKind.REJECTED)
    pairs, drops = read()
    assert [(pair.phrase, pair.kind, pair.source, pair.suggester) for pair in pairs] == [
        ("代开发票", "accepted", "model", "search"),
        ("加微信详谈", "edited", "human", ""),
        ("低价代开", "own", "human", ""),
    ]
    assert (pairs[0].id, pairs[0].text, pairs[0].policy) == (f"{report.pk}-{first.pk}", TEXT, "fraud")
    assert drops == {}


def test_suggester_names_the_adapter_that_proposed_the_phrase():
    report = confirmed(TEXT)
    batch = make_batch(report=report, adapter=make_adapter("sft-7"))
    for rank, (phrase, proposer) in enumerate([("代开", "search"), ("发票", "model"), ("微信", "both")], start=1):
        suggestion = make_suggestion(phrase, batch=batch, rank=rank, proposer=proposer)
        make_decision(suggestion=suggestion, at=APRIL)
    assert [pair.suggester for pair in read()[0]] == ["search", "sft-7", "search+sft-7"]


def test_decision_that_was_taken_back_does_not_count():
    decision = own(confirmed(TEXT), "加微信")
    make_decision(undoes=decision, at=APRIL)
    assert read() == ([], {DropReason.UNDONE: 1})


def test_nothing_later_than_until_leaks_in():
    report = confirmed(TEXT)
    make_decision(undoes=own(report, "加微信"), at=JUNE)
    own(report, "代开发票", at=JUNE)
    assert phrases() == ["加微信"]


def test_report_must_have_been_confirmed():
    own(make_report(text=TEXT), "加微信")
    unfounded = make_report(text=TEXT)
    make_judgment(report=unfounded, verdict=Verdict.NORMAL, at=MARCH)
    own(unfounded, "代开发票")
    late = make_report(text=TEXT)
    make_judgment(report=late, at=JUNE)
    own(late, "低价")
    assert read() == ([], {DropReason.UNCONFIRMED: 3})


def test_confirmation_that_was_taken_back_does_not_count():
    report = confirmed(TEXT)
    own(report, "加微信")
    make_judgment(undoes=report.judgments.get(), at=APRIL)
    assert read() == ([], {DropReason.UNCONFIRMED: 1})
    assert phrases(until=APRIL) == []  # the decision itself is of April


def test_confirmation_that_was_taken_back_later_still_stands_before():
    report = confirmed(TEXT)
    own(report, "加微信")
    make_judgment(undoes=report.judgments.get(), at=JUNE)
    assert phrases() == ["加微信"]


def test_report_whose_text_is_disputed_does_not_count():
    report = confirmed(TEXT)
    run = run_of(own(report, "加微信"))
    show(run, report.item, "normal", policy_version=report.policy.current())
    assert read() == ([], {DropReason.UNCONFIRMED: 1})


@pytest.mark.parametrize(
    ("outcome", "at", "is_pair"),
    [("confirmed", APRIL, True), ("escalated", APRIL, False), ("skipped", APRIL, False), ("skipped", JUNE, True)],
)
def test_report_that_was_closed_with_another_outcome_does_not_count(outcome, at, is_pair):
    report = confirmed(TEXT)
    own(report, "加微信")
    make_report_event(report=report, kind=ReportEventKind.CLOSED, outcome=outcome, at=at)
    assert phrases() == (["加微信"] if is_pair else [])


def test_report_that_was_opened_again_counts_by_its_verdict():
    report = confirmed(TEXT)
    own(report, "加微信")
    make_report_event(report=report, kind=ReportEventKind.CLOSED, outcome="skipped", at=APRIL)
    make_report_event(report=report, kind=ReportEventKind.REOPENED, at=APRIL)
    assert phrases() == ["加微信"]


def test_policy_is_the_one_that_the_report_was_confirmed_under():
    report = make_report(text=TEXT, policy=make_policy("asked"))
    make_judgment(report=report, policy_version=make_policy("found").current(), at=MARCH)
    own(report, "加微信")
    assert read()[0][0].policy == "found"


def test_erased_text_is_a_counted_drop():
    report = confirmed(TEXT)
    own(report, "加微信")
    erase(report.item_text)
    assert read() == ([], {DropReason.ERASED: 1})


# --- where the phrase stands ----------------------------------------------------------------------------------------


def test_phrase_is_taken_from_the_text_at_its_span():
    report = confirmed("请加.微.信，加微信")
    own(report, "加微信", span_start=1, span_end=6)
    (pair,) = read()[0]
    assert (pair.phrase, pair.key, pair.is_mapped) == ("加.微.信", "加 微 信", False)


@pytest.mark.parametrize("span", [{}, {"span_start": 0, "span_end": 3}, {"span_start": 90, "span_end": 93}])
def test_phrase_without_a_right_span_is_mapped_to_where_it_matches(span):
    report = confirmed("请加.微.信，加微信")
    make_decision(report=report, text="加 微信", at=APRIL, **span)
    (pair,) = read()[0]
    assert (pair.phrase, pair.is_mapped) == ("加.微.信", True)


def test_phrase_that_is_not_in_the_text_is_a_counted_drop():
    own(confirmed(TEXT), "代办证件")
    assert read() == ([], {DropReason.NOT_IN_TEXT: 1})


def test_equal_phrases_of_a_report_are_one_pair_and_human():
    report = confirmed("请加.微.信，加微信")
    accepted(report, "加微信", user=make_user("first"))
    make_decision(report=report, text="加.微.信", span_start=1, span_end=6, user=make_user("second"), at=APRIL)
    own(report, "加微信", user=make_user("third"))
    pairs, drops = read()
    assert [(pair.phrase, pair.source, pair.kind) for pair in pairs] == [("加.微.信", "human", "own")]
    assert drops == {DropReason.REPEATED: 2}


def test_same_phrase_of_two_reports_is_two_pairs_of_one_key():
    for text in (TEXT, "办证加微信"):
        own(confirmed(text), "加微信")
    pairs, drops = read()
    assert [pair.text for pair in pairs] == [TEXT, "办证加微信"]
    assert len({pair.key for pair in pairs}) == 1
    assert drops == {}


def test_query_of_characters_mode_is_a_query_of_its_own():
    report = confirmed("加vx12345详谈")
    make_decision(report=report, query=make_query("vx", mode=MatchMode.CHARACTERS), span_start=1, span_end=3, at=APRIL)
    make_decision(report=report, query=make_query("vx12345"), span_start=1, span_end=8, at=APRIL)
    pairs = read()[0]
    assert [pair.phrase for pair in pairs] == ["vx", "vx12345"]
    assert len({pair.key for pair in pairs}) == 2


# --- p(k|S) ---------------------------------------------------------------------------------------------------------


def test_precision_is_the_toxic_share_of_the_judged_matches():
    run = run_of(own(confirmed(TEXT), "加微信"))
    exposed(run, "办证加微信", "贷款加微信", verdict="toxic")
    exposed(run, "朋友请加微信", verdict="normal")
    exposed(run, "同学加微信吧", "同事加微信吧")
    assert evidence() == Evidence(toxic=2, judged=3, shown=5)
    assert evidence().precision == 2 / 3


def test_removed_items_count():
    run = run_of(own(confirmed(TEXT), "加微信"))
    (item,) = exposed(run, "办证加微信", verdict="toxic")
    make_removal(item=item)
    assert evidence() == Evidence(toxic=1, judged=1, shown=1)


def test_second_of_two_near_equal_phrases_is_not_blamed_for_coming_second():
    report = confirmed(TEXT)
    run = run_of(own(report, "请加微信"))
    for item in exposed(run, "办证请加微信", "贷款请加微信", verdict="toxic"):
        make_removal(item=item)
    run_of(own(report, "加微信"))  # finds nothing any more
    second = read()[0][1]
    assert (second.phrase, second.evidence) == ("加微信", Evidence(toxic=2, judged=2, shown=0))


def test_reported_item_itself_never_counts_for_its_phrase():
    report = confirmed(TEXT)
    show(run_of(own(report, "加微信")), report.item)
    assert evidence() == Evidence()


def test_reported_item_counts_for_a_phrase_of_another_report_only_where_some_query_exposed_it():
    own(confirmed(TEXT), "加微信")
    other = confirmed("办证加微信")
    assert read()[0][0].evidence == Evidence()
    show(run_of(own(confirmed("办证刻章"), "办证")), other.item)
    assert read()[0][0].evidence == Evidence(toxic=1, judged=1, shown=0)


def test_items_of_all_reports_that_gave_a_phrase_are_left_out():
    reports = [confirmed(text) for text in (TEXT, "办证加微信")]
    runs = [run_of(own(report, "加微信")) for report in reports]
    show(runs[1], reports[0].item)
    assert [pair.evidence for pair in read()[0]] == [Evidence(), Evidence()]


def test_what_nobody_could_tell_is_unjudged():
    exposed(run_of(own(confirmed(TEXT), "加微信")), "朋友请加微信", verdict="cant_tell")
    assert evidence() == Evidence(judged=0, shown=1)


def test_disagreement_of_two_auditors_is_unjudged_until_settled():
    run = run_of(own(confirmed(TEXT), "加微信"))
    item = make_item("朋友请加微信")
    first, second = make_user("first"), make_user("second")
    show(run, item, "toxic", user=first)
    exposure = run.exposures.get()
    make_judgment(exposure=exposure, verdict=Verdict.NORMAL, user=second, at=APRIL)
    assert evidence() == Evidence(judged=0, shown=1)
    make_judgment(exposure=exposure, verdict=Verdict.NORMAL, user=first, at=APRIL)
    assert evidence() == Evidence(toxic=0, judged=1, shown=1)


def test_disagreement_under_one_policy_is_not_outvoted_by_normal_under_another():
    run = run_of(own(confirmed(TEXT), "加微信"))
    show(run, make_item("朋友请加微信"), "toxic")
    exposure = run.exposures.get()
    make_judgment(exposure=exposure, verdict=Verdict.NORMAL, at=APRIL)
    make_judgment(exposure=exposure, verdict=Verdict.NORMAL, policy_version=make_policy_version(), at=APRIL)
    assert evidence() == Evidence(judged=0, shown=1)
    make_judgment(exposure=exposure, verdict=Verdict.TOXIC, policy_version=make_policy_version(), at=APRIL)
    assert evidence() == Evidence(toxic=1, judged=1, shown=1)


def test_judgment_that_was_taken_back_does_not_count():
    run = run_of(own(confirmed(TEXT), "加微信"))
    judgment = show(run, make_item("朋友请加微信"), "toxic")
    make_judgment(undoes=judgment, at=APRIL)
    assert evidence() == Evidence(judged=0, shown=1)


def test_no_later_verdict_exposure_or_undoing_leaks_in():
    run = run_of(own(confirmed(TEXT), "加微信"))
    kept = show(run, make_item("办证加微信"), "toxic")
    make_judgment(undoes=kept, at=JUNE)
    show(run, make_item("贷款加微信"), "toxic", at=JUNE)
    assert evidence() == Evidence(toxic=1, judged=1, shown=2)
    assert evidence(until=JUNE) == Evidence(toxic=1, judged=1, shown=2)


def test_exposure_of_an_erased_text_still_counts():
    run = run_of(own(confirmed(TEXT), "加微信"))
    (item,) = exposed(run, "办证加微信", verdict="toxic")
    erase(item.text)
    assert evidence() == Evidence(toxic=1, judged=1, shown=1)


def test_of_an_edited_item_the_newest_judged_text_that_matches_counts():
    report = confirmed(TEXT)
    (item,) = exposed(run_of(own(report, "加微信")), "办证加微信", verdict="toxic")
    item.text = make_item_text("朋友加微信", item=item)
    show(run_of(own(report, "代开发票")), item, "normal")
    assert read()[0][0].evidence == Evidence(toxic=0, judged=1, shown=1)
    item.text = make_item_text("别的", item=item)
    show(run_of(own(report, "低价")), item, "toxic")
    assert read()[0][0].evidence == Evidence(toxic=0, judged=1, shown=1)


def test_item_that_two_runs_exposed_counts_once():
    report = confirmed(TEXT)
    item = make_item("办证加微信")
    decision = own(report, "加微信")
    show(run_of(decision), item, "toxic")
    show(run_of(decision), item)
    assert evidence() == Evidence(toxic=1, judged=1, shown=1)


def test_characters_mode_matches_inside_words():
    report = confirmed("加vx12345详谈")
    make_decision(report=report, query=make_query("vx", mode=MatchMode.CHARACTERS), span_start=1, span_end=3, at=APRIL)
    other = own(report, "详谈")
    exposed(run_of(other), "联系vx999", verdict="toxic")
    assert read()[0][0].evidence == Evidence(toxic=1, judged=1, shown=0)


def test_what_was_judged_for_an_evaluation_alone_is_unjudged():
    own(confirmed(TEXT), "加微信")
    pooled = make_pool_item("办证加微信")
    make_judgment(pool_item=pooled, at=APRIL)
    assert evidence() == Evidence()


def test_what_an_evaluation_disputes_is_unjudged():
    run = run_of(own(confirmed(TEXT), "加微信"))
    judgment = show(run, make_item("办证加微信"), "toxic")
    pooled = make_pool_item(item=judgment.item_text.item, policy_version=judgment.policy_version)
    make_judgment(pool_item=pooled, verdict=Verdict.NORMAL, at=APRIL)
    assert evidence() == Evidence(judged=0, shown=1)


def test_verdicts_are_those_of_the_standing_table():
    draw = random.Random(8)
    people = [make_user(f"judge{number}") for number in range(3)]
    versions = [make_policy_version() for _number in range(2)]
    run = run_of(own(confirmed(TEXT), "加微信"))
    for _number in range(12):
        show(run, make_item())
    exposures = list(run.exposures.order_by("pk"))
    made = []
    for _step in range(120):
        if made and draw.random() < 0.2:
            make_judgment(undoes=made.pop(draw.randrange(len(made))))
        else:
            kwargs = {"user": draw.choice(people), "policy_version": draw.choice(versions)}
            made.append(make_judgment(exposure=draw.choice(exposures), verdict=draw.choice(list(Verdict)), **kwargs))
    log = Log(JUNE.replace(year=2100), get_analysis(), None, lambda _step, _count: None)
    expected = {}
    for exposure in exposures:
        rows = StandingVerdict.objects.filter(item_text=exposure.item_text)
        verdicts = {row.verdict for row in rows}
        is_disputed = any(row.is_disputed for row in rows)
        known = True if "toxic" in verdicts else False if "normal" in verdicts and not is_disputed else None
        expected[exposure.item_text_id] = known
    assert {text: log._verdicts.of(text) for text in expected} == expected
    assert {True, False, None} == set(expected.values())


def test_standing_verdicts_of_nothing_are_none():
    assert list(standing_verdicts([])) == []


# --- evaluation sets and D_pol --------------------------------------------------------------------------------------


def test_texts_near_to_the_evaluation_set_are_left_out():
    own(confirmed(TEXT + "一"), "加微信")
    own(confirmed("办证刻章联系电话"), "刻章")
    excluded = make_evaluation_set(reports=[make_report(text=TEXT + "二")])
    pairs, drops = read(excluded=excluded)
    assert [pair.phrase for pair in pairs] == ["刻章"]
    assert drops == {DropReason.EVALUATION: 1}


def test_texts_linked_to_the_evaluation_set_through_another_report_are_left_out():
    own(confirmed("甲乙丙丁戊己庚辛"), "甲乙")
    confirmed("甲乙丙丁戊己")
    excluded = make_evaluation_set(reports=[make_report(text="丙丁戊己")])
    assert read(excluded=excluded)[1] == {DropReason.EVALUATION: 1}


def test_report_of_the_evaluation_set_itself_is_left_out_even_when_short():
    report = confirmed("加微")
    own(report, "加微")
    assert read(excluded=make_evaluation_set(reports=[report]))[1] == {DropReason.EVALUATION: 1}


def test_reported_texts_are_the_newest_confirmed_ones():
    confirmed("旧的文本加微信")
    make_report(text="没有确认的文本")
    report = confirmed("新的文本办证书", policy=make_policy("fraud"))
    confirmed("新的文本办证书")
    last = confirmed("最新文本贷款")
    drops = Drops()
    log = Log(MAY, get_analysis(), None, lambda _step, _count: None)
    assert log.reported_texts(drops, 2) == [
        ReportedText(str(report.pk), "新的文本办证书", "fraud", report.item_id),
        ReportedText(str(last.pk), "最新文本贷款", last.policy.key, last.item_id),
    ]
    assert drops == {DropReason.REPEATED: 1, DropReason.BEYOND_LIMIT: 1}


def test_number_of_database_queries_does_not_grow_with_the_log(django_assert_num_queries):
    for number in range(4):
        exposed(run_of(own(confirmed(f"{TEXT}{number}"), "加微信")), f"办证加微信{number}", verdict="toxic")
    with django_assert_num_queries(8):
        read()
