"""The index follows the database."""

import subprocess
import sys
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from audit import indexing
from audit.models import Item, ItemState
from extraction.artifacts import store_artifact
from extraction.errors import SearchUnavailable
from extraction.models import RiskModel, RiskPromotion
from extraction.risk import dumps, fit
from extraction.search import Document, SearchEngine, SearchRequest, get_engine
from extraction.text import MatchMode
from tests.factories import make_item, make_judgment, make_policy, make_report

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def engine(settings: Any, tmp_path: Path) -> Iterator[SearchEngine]:
    """An empty index of this test's own."""
    settings.SEARCH_FILE = tmp_path / "search.sqlite3"
    engine = get_engine()
    engine.rebuild([])
    yield engine


@pytest.fixture
def risk_version(settings: Any, tmp_path: Path) -> int:
    """A risk model serves that fears the word diploma."""
    settings.MEDIA_ROOT = tmp_path
    data = dumps(fit(["cheap diploma", "diploma now", "fresh bread", "warm soup"], [1, 1, 0, 0], [1, 1, 1, 1]))
    digest = sha256(data).hexdigest()
    store_artifact(data, digest)
    row = RiskModel.objects.create(version=7, digest=digest, analysis="qx-1", positives=2, negatives=2, unlabelled=0)
    RiskPromotion.objects.create(model=row)
    return row.version


def found(text: str, *, live: bool | None = True) -> list[int]:
    return [hit.id for hit in get_engine().search(SearchRequest(text, MatchMode.PHRASE, live=live)).hits]


def behind() -> int:
    return Item.objects.to_index().count()


def test_a_document_carries_text_state_and_language_of_its_item() -> None:
    item = make_item("cheap diploma", platform="forum", author_key="u1", state=ItemState.REMOVED)
    (document,) = indexing.documents(Item.objects.all())
    assert (document.id, document.text, document.live, document.verdict) == (item.pk, "cheap diploma", False, "")
    assert (document.platform, document.author, document.language) == ("forum", "u1", "en")


def test_toxic_under_one_policy_weighs_more_than_normal_under_another() -> None:
    item = make_item()
    make_judgment(report=make_report(item=item, policy=make_policy("a"), status="closed", outcome="confirmed"))
    make_judgment(report=make_report(item=item, policy=make_policy("b")), verdict="normal")
    assert [document.verdict for document in indexing.documents([item.pk])] == ["toxic"]


def test_a_disputed_text_counts_as_unjudged() -> None:
    report = make_report()
    make_judgment(report=report)
    make_judgment(report=report, verdict="normal")
    assert [document.verdict for document in indexing.documents([report.item_id])] == [""]


def test_can_t_tell_is_no_verdict_of_a_document() -> None:
    report = make_report()
    make_judgment(report=report, verdict="cant_tell")
    assert [document.verdict for document in indexing.documents([report.item_id])] == [""]


def test_documents_of_a_query_set_come_in_order_over_all_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(indexing, "CHUNK", 2)
    pks = [make_item().pk for _ in range(5)]
    assert [document.id for document in indexing.documents(Item.objects.order_by("-pk"))] == pks


def test_the_sweep_indexes_what_is_behind_and_notes_it() -> None:
    item = make_item("cheap diploma")
    assert indexing.sweep() == 1
    assert (found("diploma"), behind()) == ([item.pk], 0)


def test_an_item_is_scored_before_it_can_be_found(risk_version: int) -> None:
    toxic, normal = make_item("cheap diploma"), make_item("warm soup")
    indexing.index_items([toxic.pk, normal.pk])
    toxic.refresh_from_db()
    normal.refresh_from_db()
    assert toxic.risk is not None and normal.risk is not None
    assert toxic.risk > 0.5 > normal.risk
    assert toxic.risk_version == risk_version
    assert get_engine().search(SearchRequest("diploma", MatchMode.PHRASE)).hits[0].risk == pytest.approx(toxic.risk)


def test_a_known_risk_is_kept_by_the_sweep(risk_version: int) -> None:
    item = make_item("cheap diploma", risk=0.25, risk_version=3)
    indexing.sweep()
    item.refresh_from_db()
    assert (item.risk, item.risk_version) == (0.25, 3)


def test_rescoring_gives_every_item_the_serving_model_s_risk(risk_version: int) -> None:
    item = make_item("cheap diploma", risk=0.001, risk_version=3)
    indexing.sweep()
    assert indexing.rescore() == 1
    item.refresh_from_db()
    assert item.risk is not None and item.risk > 0.5
    assert get_engine().search(SearchRequest("diploma", MatchMode.PHRASE)).hits[0].risk == pytest.approx(item.risk)
    assert indexing.rescore() == 0


def test_an_item_that_changed_while_it_was_indexed_stays_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    item = make_item("cheap diploma")
    put = type(get_engine()).put

    def put_while_it_changes(self: SearchEngine, documents: Any) -> Any:
        Item.objects.filter(pk=item.pk).update(version=2)
        return put(self, documents)

    monkeypatch.setattr(type(get_engine()), "put", put_while_it_changes)
    indexing.index_items([item.pk])
    assert behind() == 1


def test_engine_trouble_ends_the_sweep_and_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def down(self: SearchEngine, documents: Any) -> Any:
        raise SearchUnavailable("no answer")

    make_item()
    monkeypatch.setattr(type(get_engine()), "put", down)
    assert indexing.sweep() == 0
    assert behind() == 1


def test_verify_finds_nothing_where_both_sides_agree() -> None:
    make_item()
    indexing.sweep()
    assert not indexing.verify()


def test_verify_puts_back_what_the_index_lost(engine: SearchEngine) -> None:
    item = make_item("cheap diploma")
    indexing.sweep()
    engine.rebuild([])
    assert indexing.verify().missing == 1
    assert (found("diploma"), behind()) == ([item.pk], 0)


def test_verify_brings_an_entry_that_is_behind_up_to_date() -> None:
    item = make_item("cheap diploma")
    indexing.sweep()
    Item.objects.update(state=ItemState.REMOVED, version=2, indexed_version=2)
    assert indexing.verify().behind == 1
    assert (found("diploma"), found("diploma", live=None)) == ([], [item.pk])


def test_verify_raises_an_item_above_an_entry_that_is_ahead() -> None:
    item = make_item("cheap diploma", version=9)
    indexing.sweep()
    Item.objects.update(version=2, indexed_version=2, state=ItemState.REMOVED)
    assert indexing.verify().ahead == 1
    item.refresh_from_db()
    assert (item.version, found("diploma")) == (10, [])


def test_verify_blanks_an_entry_without_an_item_once(engine: SearchEngine) -> None:
    item = make_item("warm soup")
    (document,) = indexing.documents([item.pk])
    engine.put([Document(10**9, "cheap diploma", 3, True, document.created, None, "", "en", "forum", "")])
    assert indexing.verify().orphans == 1
    assert found("diploma", live=None) == []
    assert not indexing.verify()


def test_a_rebuild_indexes_everything_under_the_given_analysis(risk_version: int) -> None:
    item = make_item("cheap diploma")
    generation = indexing.rebuild("bench-en-1")
    item.refresh_from_db()
    assert (get_engine().generation, get_engine().analysis) == (generation, "bench-en-1")
    assert (found("diploma"), behind()) == ([item.pk], 0)
    assert item.risk_version == risk_version


def test_feeding_indexes_every_chunk(monkeypatch: pytest.MonkeyPatch, risk_version: int) -> None:
    items = [make_item(f"cheap diploma {number}") for number in range(6)]
    with indexing.Feeder() as feeder:
        for item in items:
            feeder.feed([item.pk])
    assert (sorted(found("diploma")), behind()) == ([item.pk for item in items], 0)


def test_feeding_goes_on_in_a_second_process(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, risk_version: int
) -> None:
    monkeypatch.setenv("QX_VAR_DIR", str(tmp_path))  # the process reads its settings anew: the same search file
    monkeypatch.setattr(indexing, "WARM_UP_CHUNKS", 1)
    monkeypatch.setattr(indexing, "_cores", lambda: 2)
    items = [make_item(f"cheap diploma {number}") for number in range(6)]
    with indexing.Feeder() as feeder:
        for item in items:
            feeder.feed([item.pk])
    assert (feeder.stopped, sorted(found("diploma")), behind()) == ("", [item.pk for item in items], 0)
    assert set(Item.objects.values_list("risk_version", flat=True)) == {risk_version}


def test_feeding_stops_with_a_sentence_where_the_engine_is_down(monkeypatch: pytest.MonkeyPatch) -> None:
    def down(self: SearchEngine, documents: Any) -> Any:
        raise SearchUnavailable("no answer")

    monkeypatch.setattr(type(get_engine()), "put", down)
    item = make_item()
    with indexing.Feeder() as feeder:
        feeder.feed([item.pk])
        feeder.feed([item.pk])
    assert "cannot be reached" in feeder.stopped
    assert behind() == 1


def test_the_worker_module_loads_without_the_models() -> None:
    code = "import sys, audit.index_worker; assert 'audit.models' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
