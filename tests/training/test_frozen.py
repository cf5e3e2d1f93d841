"""What a frozen set holds: the reports, the index as it was live at the cut-off, and that neither ever changes."""

from datetime import timedelta

import pytest
from django.utils import timezone

from audit.append_only import maintenance_pass
from audit.models import Item, ItemState, ItemText, Outcome, RemovalKind, ReportStatus
from extraction.artifacts import DamagedArtifact
from tests.audit.loop import make_indexed
from tests.factories import make_digest, make_item, make_item_text, make_policy, make_removal, make_report
from training.frozen import CannotFreeze, FrozenIndex, freeze, reported_texts
from training.models import EvaluationSet

pytestmark = pytest.mark.django_db

NOW = timezone.now()
CUTOFF = NOW - timedelta(days=7)
BEFORE, AFTER = CUTOFF - timedelta(days=1), CUTOFF + timedelta(days=1)


@pytest.fixture(autouse=True)
def _places(settings, tmp_path):
    settings.MEDIA_ROOT = tmp_path / "media"
    settings.VAR_DIR = tmp_path
    settings.SEARCH_FILE = tmp_path / "search.sqlite3"
    make_indexed("an item of today, so that there is an index")


def item(text, **kwargs):
    """An item that was published and came in before the cut-off."""
    return make_item(text, text_at=BEFORE, **({"created": BEFORE, "imported": BEFORE} | kwargs))


def report(text="a reported text of its own", **kwargs):
    """A report that was opened after the cut-off and confirmed."""
    return make_report(text=text, **({"opened": AFTER, "status": ReportStatus.CLOSED} | kwargs))


def frozen(name="t-1", **kwargs) -> EvaluationSet:
    return freeze(name, cutoff=CUTOFF, **kwargs)


def found(evaluation_set, query="cheap diploma", **kwargs):
    """The texts that a query finds, newest first."""
    ids = FrozenIndex(evaluation_set).find(query, **kwargs)
    texts = ItemText.objects.in_bulk(ids)
    return [texts[id_].text for id_ in ids]


# --- reports --------------------------------------------------------------------------------------------------------


def test_reports_opened_after_the_cutoff_and_confirmed_are_tested():
    item("cheap diploma")
    closed = report("the first one")
    exploring = report("the second one", status=ReportStatus.EXPLORING)
    report("opened too early", opened=BEFORE)
    report("not confirmed", outcome=Outcome.UNFOUNDED)
    report("nobody looked at it", status=ReportStatus.WAITING)
    assert frozen().reports == [[one.pk, one.item_text_id] for one in (closed, exploring)]


def test_of_too_many_reports_the_newest_are_tested():
    item("cheap diploma")
    reports = [report(f"number {number}", opened=AFTER + timedelta(hours=number)) for number in (2, 0, 1)]
    assert [pk for pk, _text in frozen(most=2).reports] == [reports[0].pk, reports[2].pk]


def test_a_text_that_was_reported_twice_is_tested_once():
    reported = item("cheap diploma")
    policy = make_policy()
    report(item=reported, policy=policy)
    again = report(item=reported, policy=policy, opened=AFTER + timedelta(hours=1))
    assert frozen().reports == [[again.pk, reported.text_id]]


def test_near_copies_are_one_cluster():
    item("cheap diploma")
    report("selling a forged diploma with hologram and stamp, any year")
    report("Selling a forged diploma with hologram and stamp, any year!")
    report("part time work from home, deposit first")
    assert len(frozen().clusters) == 2


def test_nothing_confirmed_is_nothing_to_freeze():
    item("cheap diploma")
    report(status=ReportStatus.WAITING)
    with pytest.raises(CannotFreeze, match="No report"):
        frozen()


def test_no_item_is_nothing_to_search_in():
    report()
    with pytest.raises(CannotFreeze, match="No item"):
        frozen()


def test_a_name_is_taken_once():
    item("cheap diploma")
    report()
    frozen()
    with pytest.raises(CannotFreeze, match="this name"):
        frozen()


def test_a_report_whose_text_was_erased_is_tested_no_more():
    item("cheap diploma")
    kept, erased = report("the first one"), report("the second one")
    evaluation_set = frozen()
    erase(erased.item_text)
    assert [one.report_id for one in reported_texts(evaluation_set)] == [kept.pk]


def test_a_report_names_the_texts_of_its_own_item():
    reported = item("cheap diploma")
    newer = make_item_text("cheap diploma, edited", item=reported, at=AFTER)
    report(item=reported)
    (tested,) = reported_texts(frozen())
    assert tested.own == {reported.text_id, newer.pk}


# --- the index ------------------------------------------------------------------------------------------------------


def test_what_came_in_after_the_cutoff_is_not_in_it():
    item("cheap diploma one")
    item("cheap diploma two", imported=AFTER)
    item("cheap diploma three", created=AFTER)
    report()
    evaluation_set = frozen()
    assert evaluation_set.items == 1
    assert found(evaluation_set) == ["cheap diploma one"]


def test_an_edited_item_has_the_text_of_that_time():
    edited = item("cheap diploma then")
    edited.text = make_item_text("cheap diploma now", item=edited, at=AFTER)
    edited.save()
    twice = item("cheap diploma at first")
    twice.text = make_item_text("cheap diploma after the first edit", item=twice, at=BEFORE + timedelta(hours=1))
    twice.save()
    report()
    assert sorted(found(frozen())) == ["cheap diploma after the first edit", "cheap diploma then"]


def test_what_was_removed_before_is_not_in_it_and_what_was_removed_after_is():
    make_removal(item=item("cheap diploma removed before"), at=BEFORE)
    make_removal(item=item("cheap diploma removed after"), at=AFTER)
    report()
    assert found(frozen()) == ["cheap diploma removed after"]


def test_what_was_reinstated_by_then_is_in_it():
    back, back_later = item("cheap diploma that came back"), item("cheap diploma that came back later")
    for one, at in ((back, BEFORE), (back_later, AFTER)):
        make_removal(item=one, at=BEFORE)
        make_removal(item=one, kind=RemovalKind.REINSTATED, at=at)
    report()
    assert found(frozen()) == ["cheap diploma that came back"]


def test_what_left_the_platform_is_still_in_it():
    item("cheap diploma", state=ItemState.GONE)
    report()
    assert found(frozen()) == ["cheap diploma"]


def test_what_had_no_text_then_or_was_erased_is_not_in_it():
    item("cheap diploma, still there")
    late = item("cheap diploma, text came later")
    with maintenance_pass("test set-up"):
        ItemText.objects.filter(item=late).update(at=AFTER)
    erase(item("cheap diploma, erased").text)
    report()
    assert found(frozen()) == ["cheap diploma, still there"]


def test_a_text_that_is_erased_afterwards_leaves_it_when_it_is_built():
    item("cheap diploma, still there")
    gone = item("cheap diploma, erased")
    report()
    evaluation_set = frozen()
    erase(gone.text)
    assert found(evaluation_set) == ["cheap diploma, still there"]


def test_the_newest_come_first_and_at_most_100():
    for number in range(103):
        item(f"cheap diploma {number}", created=BEFORE - timedelta(hours=number))
    report()
    texts = found(frozen())
    assert len(texts) == 100
    assert texts[:2] == ["cheap diploma 0", "cheap diploma 1"]


def test_texts_of_the_reported_item_are_passed_over_without_losing_a_place():
    items = [item(f"cheap diploma {number}", created=BEFORE - timedelta(hours=number)) for number in range(101)]
    report()
    texts = found(frozen(), but={items[0].text_id})
    assert len(texts) == 100
    assert texts[0] == "cheap diploma 1"


def test_a_query_of_which_nothing_remains_finds_nothing():
    item("cheap diploma")
    report()
    assert found(frozen(), "…") == []


# --- for ever -------------------------------------------------------------------------------------------------------


def test_the_same_moment_has_the_same_digest_whatever_happens_later():
    edited, removed = item("cheap diploma one"), item("cheap diploma two")
    report()
    first = frozen("t-1")
    make_removal(item=removed, at=AFTER)
    edited.text = make_item_text("another text", item=edited)
    edited.save()
    Item.objects.filter(pk=edited.pk).update(state=ItemState.GONE)
    item("cheap diploma three", imported=NOW)
    second = frozen("t-2")
    assert first.digest == second.digest


def test_another_moment_has_another_digest():
    item("cheap diploma")
    report()
    first = frozen()
    assert freeze("t-2", cutoff=CUTOFF - timedelta(hours=1)).digest != first.digest


def test_the_index_does_not_follow_later_changes():
    one = item("cheap diploma")
    report()
    evaluation_set = frozen()
    make_removal(item=one)
    Item.objects.filter(pk=one.pk).update(created=NOW)
    assert found(evaluation_set) == ["cheap diploma"]


def test_the_index_is_built_once(monkeypatch):
    item("cheap diploma")
    report()
    evaluation_set = frozen()
    assert found(evaluation_set)
    monkeypatch.setattr("training.frozen.fetch_file", lambda *args: 1 / 0)
    assert found(evaluation_set)


def test_a_worker_with_an_empty_disk_builds_the_same_index(settings, tmp_path):
    item("cheap diploma")
    report()
    evaluation_set = frozen()
    before = found(evaluation_set)
    settings.VAR_DIR = tmp_path / "another machine"
    settings.VAR_DIR.mkdir()
    assert found(evaluation_set) == before


def test_a_set_whose_file_is_gone_says_so():
    item("cheap diploma")
    report()
    evaluation_set = frozen()
    evaluation_set.digest = make_digest()
    with pytest.raises(DamagedArtifact):
        FrozenIndex(evaluation_set)


def erase(item_text):
    with maintenance_pass("erasure asked by the author"):
        ItemText.objects.filter(pk=item_text.pk).update(text="")
