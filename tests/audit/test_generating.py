"""What the long-lived worker does, with a tiny model and the real queue: it reads ahead, swaps adapters, steps back."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from django.utils import timezone

from audit import generating, jobs
from audit.generating import generate_ahead, is_behind, unread, yield_card
from audit.models import Generation, Report, ReportStatus, SuggesterSwitch, Suggestion
from audit.services import claim
from audit.suggesting import suggest
from extraction.artifacts import artifact_name, store_folder
from extraction.card import HELD, WANTED, CardLock
from extraction.generation import LocalModel, stamp
from extraction.models import Adapter, AdapterPromotion, AdapterRole, BaseModel
from extraction.registry import adapter_for, adapters_at_work
from tests.audit.loop import key, make_indexed
from tests.audit.models_at_work import at_work, written
from tests.extraction.test_llm_server import Server, server
from tests.factories import make_adapter, make_base, make_promotion, make_report
from tests.queues import empty_queues, waiting, work_off
from tests.tiny import base_folder, tiny_adapter, tiny_base

__all__ = ["base_folder", "server"]

pytestmark = pytest.mark.django_db

SERVING, CHALLENGER, SHADOW = AdapterRole.SERVING, AdapterRole.CHALLENGER, AdapterRole.SHADOW
TEXT = "formal certifcate with steel stamp, call now"


@pytest.fixture(autouse=True)
def _a_worker_of_this_test(db, engine_file, settings, tmp_path, monkeypatch) -> Iterator[None]:
    settings.MEDIA_ROOT, settings.ARTIFACT_CACHE = tmp_path / "media", tmp_path / "cache"
    settings.VAR_DIR = tmp_path
    monkeypatch.setattr(generating, "_model", generating._Model())
    make_indexed(TEXT)
    empty_queues()
    yield
    generating._model.leave()
    empty_queues()


@pytest.fixture(scope="module")
def adapter_folders(base_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    place = tmp_path_factory.mktemp("adapters")
    return {name: tiny_adapter(place / name, base_folder, seed=seed) for seed, name in enumerate("ab", start=1)}


def stored_base(folder: Path) -> BaseModel:
    hashes = stamp(folder, "zh-1")
    return make_base(digest=store_folder(folder), **hashes)


@pytest.fixture
def base(base_folder: Path) -> BaseModel:
    return stored_base(base_folder)


@pytest.fixture
def adapters(base: BaseModel, adapter_folders: dict[str, Path]) -> dict[str, Adapter]:
    return {
        name: make_adapter(name, base=base, digest=store_folder(folder)) for name, folder in adapter_folders.items()
    }


def read_by(adapter: Adapter) -> set[int]:
    """The reports whose text the adapter has read."""
    texts = Generation.objects.filter(adapter=adapter).values("item_text")
    return set(Report.objects.filter(item_text__in=texts).values_list("pk", flat=True))


# --- what there is to do


def test_without_an_adapter_at_work_there_is_nothing_to_do():
    make_report()
    generate_ahead()
    assert not is_behind()
    assert waiting("suggest") == []


def test_waiting_reports_come_first_in_queue_order(auditor):
    adapter = at_work()
    now = timezone.now()
    held = make_report(due=now)
    claim(report=held, user=auditor, key=key())
    late, soon = make_report(due=now + timedelta(hours=9)), make_report(due=now + timedelta(hours=1))
    make_report(status=ReportStatus.CLOSED)
    found = unread(adapters_at_work(), 9)
    assert [one.report for one in found] == [soon, late, held]
    assert {one.adapter for one in found} == {adapter}
    assert [one.report for one in unread(adapters_at_work(), 2)] == [soon, late]


def test_a_text_is_read_once():
    report = make_report(text=TEXT)
    written(report, at_work(), "steel stamp")
    assert unread(adapters_at_work(), 9) == []


def test_a_challenger_reads_its_share_and_the_serving_adapter_the_rest():
    serving, challenger = at_work(), at_work(role=CHALLENGER, share=0.5)
    reports = [make_report() for _number in range(12)]
    found = {one.report.pk: one.adapter for one in unread(adapters_at_work(), 99)}
    assert found == {report.pk: adapter_for(report.pk)[0] for report in reports}
    assert set(found.values()) == {serving, challenger}


def test_a_shadow_reads_all_reports_after_those_that_are_shown():
    serving, shadow = at_work(), at_work(role=SHADOW)
    reports = [make_report(), make_report()]
    found = unread(adapters_at_work(), 3)
    assert [one.adapter for one in found] == [serving, serving, shadow]
    assert {one.report for one in unread(adapters_at_work(), 9) if one.adapter == shadow} == set(reports)


def test_a_policy_without_a_language_model_is_left_out():
    at_work()
    at_work(role=SHADOW)
    report = make_report()
    SuggesterSwitch.objects.create(suggester="llm", policy=report.policy, is_on=False)
    assert unread(adapters_at_work(), 9) == []
    assert not is_behind()


def test_a_report_whose_suggestions_lack_what_is_written_is_behind_until_they_hold_it():
    report = make_report(text=TEXT)
    written(report, at_work(), "steel stamp")
    assert is_behind()
    suggest(report)
    assert not is_behind()


def test_a_report_that_somebody_holds_is_not_waited_for(auditor):
    report = make_report(text=TEXT)
    suggest(report)
    claim(report=report, user=auditor, key=key())
    written(report, at_work(), "steel stamp")
    assert not is_behind()


# --- doing it


def test_what_is_written_is_verbatim_and_the_best_first(adapters):
    report = make_report(text=TEXT)
    make_promotion(adapter=adapters["a"])
    generate_ahead()
    generation = Generation.objects.get()
    assert (generation.item_text, generation.adapter) == (report.item_text, adapters["a"])
    assert generation.took_ms > 0
    assert generation.spans
    for start, end, confidence in generation.spans:
        assert TEXT[start:end].strip()
        assert confidence < 0


def test_running_twice_does_no_harm(adapters):
    make_report(text=TEXT)
    make_promotion(adapter=adapters["a"])
    generate_ahead()
    generate_ahead()
    assert Generation.objects.count() == 1


def test_a_text_that_was_erased_is_read_without_a_query(adapters):
    report = make_report(text="!")
    make_promotion(adapter=adapters["a"])
    generate_ahead()
    assert Generation.objects.get(item_text=report.item_text).spans == []


def test_the_job_goes_behind_what_waits_after_each_batch(adapters, monkeypatch):
    monkeypatch.setattr(generating, "BATCH", 2)
    reports = [make_report() for _number in range(3)]
    make_promotion(adapter=adapters["a"])
    jobs.enqueue("suggest", "audit.jobs.refresh_suggestions", job_id="somebody-elses")
    generate_ahead(turn=0)
    assert Generation.objects.count() == 2
    assert waiting("suggest")[:2] == ["somebody-elses", "generate-ahead-1"]
    work_off("suggest")
    work_off("suggest")
    assert read_by(adapters["a"]) == {report.pk for report in reports}


def test_a_new_report_has_the_suggestions_of_search_at_once_and_the_models_soon(adapters):
    make_promotion(adapter=adapters["a"])
    report = make_report(text=TEXT)
    jobs.suggest_for_report(report.pk)
    report.refresh_from_db()
    assert report.batch.suggester == "search"
    assert waiting("suggest") == ["generate-ahead-0"]
    while waiting("suggest"):
        work_off("suggest")
    report.refresh_from_db()
    assert (report.batch.suggester, report.batch.adapter) == ("search+llm", adapters["a"])


def test_a_shadows_queries_ask_for_no_suggestions(adapters):
    report = make_report(text=TEXT)
    suggest(report)
    make_promotion(adapter=adapters["a"], role=SHADOW)
    generate_ahead()
    assert read_by(adapters["a"]) == {report.pk}
    assert waiting("suggest") == ["generate-ahead-1"]
    assert not Suggestion.objects.exclude(proposer="search").exists()


def test_several_adapters_answer_in_one_batch(adapters):
    make_promotion(adapter=adapters["a"])
    make_promotion(adapter=adapters["b"], role=SHADOW)
    report = make_report(text=TEXT)
    generate_ahead()
    first, second = Generation.objects.order_by("adapter__name")
    assert first.item_text == second.item_text == report.item_text
    assert first.spans != second.spans


def test_the_batch_after_a_promotion_is_the_new_adapters_on_the_same_model(adapters):
    make_report(text=TEXT)
    make_promotion(adapter=adapters["a"])
    generate_ahead()
    model = generating._model._model
    make_promotion(adapter=adapters["b"])
    generate_ahead()
    assert generating._model._model is model
    assert isinstance(model, LocalModel)
    assert model.adapters == ["b"]
    assert Generation.objects.filter(adapter=adapters["b"]).exists()


def test_an_adapter_of_another_base_brings_its_base(adapters, tmp_path):
    make_report(text=TEXT)
    make_promotion(adapter=adapters["a"])
    generate_ahead()
    other = tiny_base(tmp_path / "other", seed=7)
    folder = tiny_adapter(tmp_path / "c", other)
    adapter = make_adapter("c", base=stored_base(other), digest=store_folder(folder))
    make_promotion(adapter=adapter)
    generate_ahead()
    assert read_by(adapter)


def test_two_bases_take_turns(adapters, tmp_path):
    other = tiny_base(tmp_path / "other", seed=7)
    folder = tiny_adapter(tmp_path / "c", other)
    shadow = make_adapter("c", base=stored_base(other), digest=store_folder(folder))
    make_promotion(adapter=adapters["a"])
    make_promotion(adapter=shadow, role=SHADOW)
    make_report(text=TEXT)
    generate_ahead()
    assert Generation.objects.get().adapter == adapters["a"]
    generate_ahead()
    assert read_by(shadow)


# --- what stands in the way


def test_a_refused_adapter_is_said_once_and_the_others_go_on(adapters, caplog):
    make_promotion(adapter=adapters["a"])
    make_promotion(adapter=adapters["b"], role=SHADOW)
    Adapter.objects.filter(pk=adapters["a"].pk).update(tokenizer_hash="another")
    report = make_report(text=TEXT)
    while generate_ahead() or waiting("suggest"):
        work_off("suggest")
    assert read_by(adapters["a"]) == set()
    assert read_by(adapters["b"]) == {report.pk}
    assert [record.message for record in caplog.records if "refused" in record.message] == [
        "The adapter a is refused, search suggests alone: The adapter was trained with tokenizer_hash "
        f"'{adapters['a'].base.tokenizer_hash}', needed is 'another'."
    ]


def test_a_lost_base_leaves_search_alone(adapters, settings):
    make_promotion(adapter=adapters["a"])
    make_report(text=TEXT)
    (settings.MEDIA_ROOT / artifact_name(adapters["a"].base.digest)).unlink()
    generate_ahead()
    assert not Generation.objects.exists()
    assert waiting("suggest") == []


def test_an_adapter_that_is_whole_again_is_taken_up_after_a_while(adapters, settings, monkeypatch):
    make_promotion(adapter=adapters["a"])
    make_report(text=TEXT)
    manifest = settings.MEDIA_ROOT / artifact_name(adapters["a"].digest)
    away = manifest.rename(manifest.with_suffix(".away"))
    generate_ahead()
    away.rename(manifest)
    generate_ahead()
    assert not Generation.objects.exists()
    monkeypatch.setattr(generating, "AGAIN_AFTER_S", 0.0)
    generate_ahead()
    assert Generation.objects.exists()


def test_a_training_that_wants_the_card_gets_it_and_search_goes_on(adapters):
    make_promotion(adapter=adapters["a"])
    make_report(text=TEXT)
    generate_ahead()
    with CardLock(WANTED) as wanted, CardLock(HELD) as held:
        wanted.take()
        assert not held.take()
        yield_card()
        assert held.take()
        report = make_report(text=TEXT)
        generate_ahead()
        assert read_by(adapters["a"]) != {report.pk}
        jobs.suggest_for_report(report.pk)
        report.refresh_from_db()
        assert report.batch.suggester == "search"
    generate_ahead()
    assert report.pk in read_by(adapters["a"])


def test_nobody_at_work_is_no_model_in_memory(adapters):
    make_promotion(adapter=adapters["a"])
    make_report(text=TEXT)
    generate_ahead()
    AdapterPromotion.objects.create(adapter=None)
    generate_ahead()
    assert not generating._model.is_in_memory


def test_a_job_that_fails_loses_no_report(adapters, monkeypatch):
    make_promotion(adapter=adapters["a"])
    report = make_report(text=TEXT)
    monkeypatch.setattr(LocalModel, "propose", lambda *args, **kwargs: 1 / 0)
    jobs.suggest_for_report(report.pk)
    work_off("suggest")
    monkeypatch.undo()
    monkeypatch.setattr(generating, "_model", generating._Model())
    report.refresh_from_db()
    assert report.batch.suggester == "search"
    jobs.tick()
    while waiting("suggest"):
        work_off("suggest")
    report.refresh_from_db()
    assert report.batch.suggester == "search+llm"


def test_where_the_queue_was_emptied_the_tick_asks_again():
    report = make_report(text=TEXT)
    written(report, at_work(), "steel stamp")
    suggest(report)
    other = make_report(text=TEXT)
    written(other, adapters_at_work()[SERVING], "steel stamp")
    jobs.tick()
    assert "generate-ahead-0" in waiting("suggest")


# --- a server of the operator's own


@pytest.fixture
def served(server: Server, settings, adapters) -> list[str]:
    """The adapters that the server has; `a` serves here, and every question is answered with two phrases."""
    loaded: list[str] = []

    def load(body):
        loaded.append(body["lora_name"])
        return 200, "Success."

    def unload(body):
        loaded.remove(body["lora_name"])
        return 200, "Success."

    server.answers["/v1/models"] = lambda body: (200, {"data": [{"id": name} for name in loaded]})
    server.answers["/v1/load_lora_adapter"] = load
    server.answers["/v1/unload_lora_adapter"] = unload
    server.completions("steel stamp，call now")
    settings.LLM_URL = server.url
    make_promotion(adapter=adapters["a"])
    return loaded


def test_a_server_of_ones_own_stands_in_for_the_model(served):
    make_report(text=TEXT)
    generate_ahead()
    assert served == ["a"]
    assert [TEXT[start:end] for start, end, _confidence in Generation.objects.get().spans] == [
        "steel stamp",
        "call now",
    ]
    assert not generating._model.is_in_memory


def test_the_server_swaps_adapters_too(served, adapters):
    make_report(text=TEXT)
    generate_ahead()
    make_promotion(adapter=adapters["b"])
    generate_ahead()
    assert served == ["b"]


def test_a_server_needs_no_card_of_this_machine(served):
    make_report(text=TEXT)
    with CardLock(WANTED) as wanted:
        wanted.take()
        generate_ahead()
    assert Generation.objects.exists()


def test_a_server_that_lost_its_adapters_gets_them_again(served, server):
    make_report(text=TEXT)
    generate_ahead()
    served.clear()
    server.answers["/v1/completions"] = lambda body: (404, "no such model")
    make_report(text=TEXT)
    generate_ahead()
    assert Generation.objects.count() == 1
    server.completions("steel stamp")
    generate_ahead()
    assert served == ["a"]
    assert Generation.objects.count() == 2


def test_a_server_that_is_down_leaves_search_alone(served, settings):
    settings.LLM_URL = "http://127.0.0.1:1"
    make_report(text=TEXT)
    generate_ahead()
    assert not Generation.objects.exists()
    assert waiting("suggest") == []
