"""Let the language model propose ahead of the auditors: the job of the long-lived worker that holds it.

`generate_ahead` takes one batch of open reports whose text an adapter at work has not read yet, writes a Generation for
each, and asks for the suggestions of the reports that lack what is written; then it goes to the end of the queue, so
that a new report gets the suggestions of `search` at once. Who is at work is read before each batch: after a promotion
the next batch is the new adapter's, without a restart.
"""

import gc
import heapq
import logging
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib.util import find_spec
from itertools import islice

from django.conf import settings
from django.db.models import Case, Exists, OuterRef, Q, QuerySet, When

from audit.models import Generation, Report, ReportStatus, SuggesterName
from audit.queueing import enqueue
from audit.suggesting import is_on
from extraction.artifacts import DamagedArtifact, UnsafeArtifact, fetch_folder
from extraction.card import HELD, CardLock, is_card_wanted
from extraction.generation import AdapterRefused, LocalModel, ModelRefused, check_adapter
from extraction.llm_server import AddressRefused, LlmServerError, ServerProposer
from extraction.models import Adapter, AdapterRole, BaseModel
from extraction.prompts import get_prompt
from extraction.registry import adapters_at_work, adapters_for

BATCH = 32
CHUNK = 500
REQUEUED = 500
AGAIN_AFTER_S = 600.0
"""How long an adapter that was refused is left alone, before its files are looked at once more."""
TIMEOUT_S = 3600
"""The first batch fetches a base model from the storage and loads it."""

Place = tuple[bool, datetime, int]
"""A report's place in the queue: whether somebody holds it, when it is due, its id."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Unread:
    """A report whose text an adapter has not read yet."""

    report: Report
    adapter: Adapter


def ask_for_generation(turn: int = 0) -> None:
    """Queue the job, once; the one that runs asks for its own next turn under the other of two ids."""
    enqueue("suggest", "audit.generating.generate_ahead", turn, job_id=f"generate-ahead-{turn}", timeout_s=TIMEOUT_S)


def generate_ahead(turn: int = 0) -> None:
    """Write the queries of one batch, and ask for the suggestions of the reports that lack what is written."""
    at_work = adapters_at_work()
    if not at_work:
        _model.leave()
    try:
        batch = _of_one_base(unread(at_work, BATCH, without=_model.refused))
        if batch and _generate(batch, at_work):
            ask_for_generation(turn=1 - turn)
    finally:  # what is written already does not wait for a model that fails
        for report_id in unmerged(at_work, REQUEUED):
            enqueue("suggest", "audit.jobs.suggest_for_report", report_id, job_id=f"suggest-{report_id}")


def is_behind() -> bool:
    """Whether a text waits for an adapter, or a report for the suggestions that are written: asked by the tick."""
    at_work = adapters_at_work()
    return bool(at_work) and bool(unread(at_work, 1) or unmerged(at_work, 1))


def yield_card() -> None:
    """Leave the card where a training asks for it. Between two jobs, and where a training queues it as a job."""
    if _model.is_in_memory and is_card_wanted():
        _model.leave()
        logger.info("The language model left the card to a training; search suggests alone meanwhile.")


# --- what there is to do


def unread(at_work: Mapping[AdapterRole, Adapter], most: int, *, without: Iterable[Adapter] = ()) -> list[Unread]:
    """The first `most` open reports whose text their adapter has not read, waiting ones first, in queue order; where
    there are fewer, those that the shadow has not read.
    """
    refused = set(without)
    found = list(islice(_in_order(_own(one, _not_read_by(one)) for one in _shown(at_work) - refused), most))
    shadow = at_work.get(AdapterRole.SHADOW)
    if shadow is not None and shadow not in refused:
        found += [(place, shadow) for place in islice(_where_on(_not_read_by(shadow)), most - len(found))]
    reports = Report.objects.select_related("item_text").in_bulk(report for (_held, _due, report), _adapter in found)
    return [Unread(reports[report], adapter) for (_held, _due, report), adapter in found]


def unmerged(at_work: Mapping[AdapterRole, Adapter], most: int) -> list[int]:
    """The first `most` reports that nobody holds and whose suggestions lack what their adapter has written."""
    free = Report.objects.open().filter(Q(batch=None) | Q(status=ReportStatus.WAITING))
    lacking = (
        _own(one, free.filter(Exists(_generations_of(one))).exclude(batch__adapter=one)) for one in _shown(at_work)
    )
    return [report for (_held, _due, report), _adapter in islice(_in_order(lacking), most)]


def _shown(at_work: Mapping[AdapterRole, Adapter]) -> set[Adapter]:
    return {at_work[role] for role in (AdapterRole.SERVING, AdapterRole.CHALLENGER) if role in at_work}


def _not_read_by(adapter: Adapter) -> "QuerySet[Report]":
    return Report.objects.open().filter(~Exists(_generations_of(adapter)))


def _generations_of(adapter: Adapter) -> "QuerySet[Generation]":
    return Generation.objects.filter(item_text=OuterRef("item_text"), adapter=adapter)


def _in_order(of_each: Iterable[Iterator[tuple[Place, Adapter]]]) -> Iterator[tuple[Place, Adapter]]:
    return heapq.merge(*of_each, key=lambda found: found[0])


def _own(adapter: Adapter, reports: "QuerySet[Report]") -> Iterator[tuple[Place, Adapter]]:
    """Those of the reports that get the queries of this adapter, in queue order."""
    places = _where_on(reports)
    while chunk := list(islice(places, CHUNK)):
        sides = adapters_for(report for _held, _due, report in chunk)
        yield from ((place, adapter) for place in chunk if sides[place[-1]][0] == adapter)


def _where_on(reports: "QuerySet[Report]") -> Iterator[Place]:
    """Those for whose policy a language model may propose, in queue order: of a long queue only the head is read."""
    is_held = Case(When(status=ReportStatus.WAITING, then=False), default=True)
    rows = reports.annotate(is_held=is_held).order_by("is_held", "due", "pk")
    is_on_for: dict[int, bool] = {}
    for held, due, pk, policy in rows.values_list("is_held", "due", "pk", "policy_id").iterator(CHUNK):
        if policy not in is_on_for:
            is_on_for[policy] = is_on(SuggesterName.LLM, policy)
        if is_on_for[policy]:
            yield held, due, pk


def _of_one_base(found: Sequence[Unread]) -> list[Unread]:
    """Those whose adapters sit on the base of the first: one model is in memory at a time."""
    return [one for one in found if one.adapter.base_id == found[0].adapter.base_id]


# --- doing it


def _generate(batch: Sequence[Unread], at_work: Mapping[AdapterRole, Adapter]) -> bool:
    """Write the queries for a batch. False where that cannot be done now; the tick asks again."""
    base = batch[0].adapter.base
    try:
        model = _model.on(base, [adapter for adapter in at_work.values() if adapter.base_id == base.pk])
        if model is None:
            return False
        batch = [one for one in batch if one.adapter not in _model.refused]
        began = time.perf_counter()
        proposed = model.propose([one.report.item_text.text for one in batch], [one.adapter.name for one in batch])
    except (LlmServerError, AddressRefused) as error:
        logger.warning("The language model's server did not answer, search suggests alone: %s", error)
        _model.leave()  # it may have lost what was loaded
        return False
    took_ms = (time.perf_counter() - began) * 1000
    Generation.objects.bulk_create(
        (
            Generation(
                item_text=one.report.item_text,
                adapter=one.adapter,
                spans=[[query.start, query.end, query.confidence] for query in queries],
                took_ms=took_ms / len(batch),
            )
            for one, queries in zip(batch, proposed, strict=True)
        ),
        ignore_conflicts=True,  # another worker may have read the same texts
    )
    return True


class _Model:
    """The base model that this process holds, or whose server it asks, with the adapters at work on it."""

    def __init__(self) -> None:
        self._base: BaseModel | None = None
        self._model: LocalModel | ServerProposer | None = None
        self._loaded: set[Adapter] = set()
        self._refused: dict[Adapter, float] = {}
        self._card: CardLock | None = None

    @property
    def is_in_memory(self) -> bool:
        return isinstance(self._model, LocalModel)

    @property
    def refused(self) -> set[Adapter]:
        """The adapters whose files could not be used, a short while ago."""
        now = time.monotonic()
        return {adapter for adapter, at in self._refused.items() if now - at < AGAIN_AFTER_S}

    def on(self, base: BaseModel, adapters: Sequence[Adapter]) -> LocalModel | ServerProposer | None:
        """The model with exactly these adapters on it, but for those that are refused.

        None where the base cannot be used, the learning stack is missing, or a training has the card.
        """
        if not _has_learning_stack():
            logger.warning("An adapter is at work, but the learning stack is not installed: search suggests alone.")
            return None
        if not settings.LLM_URL and is_card_wanted():
            self.leave()
        elif self._base != base:
            self.leave()
            self._open(base, adapters)
        if self._model is not None:
            self._swap(self._model, set(adapters))
        return self._model

    def leave(self) -> None:
        """Free the memory, and the card."""
        was_in_memory = self.is_in_memory
        self._model, self._base, self._loaded = None, None, set()
        if was_in_memory:
            import torch

            gc.collect()
            torch.cuda.empty_cache()
        if self._card is not None:
            self._card.release()

    def _open(self, base: BaseModel, adapters: Iterable[Adapter]) -> None:
        self._card = self._card or CardLock(HELD)
        if not settings.LLM_URL and not self._card.take(shared=True):
            return  # a training has it
        try:
            self._model, self._base = _model_of(base), base
        except (ModelRefused, DamagedArtifact, UnsafeArtifact, OSError) as error:
            logger.error("The base model %s cannot be used, search suggests alone: %s", base, error)
            self._refused |= dict.fromkeys(adapters, time.monotonic())
            self.leave()

    def _swap(self, model: LocalModel | ServerProposer, adapters: set[Adapter]) -> None:
        for adapter in self._loaded - adapters:
            model.drop_adapter(adapter.name)
            self._loaded.remove(adapter)
        for adapter in adapters - self._loaded - self.refused:
            try:
                folder = fetch_folder(adapter.digest)
                check_adapter(folder, adapter=adapter, base=adapter.base)
                if adapter.name not in model.adapters:  # a server may have it from its start
                    model.load_adapter(adapter.name, folder)
                self._loaded.add(adapter)
            except (AdapterRefused, DamagedArtifact, UnsafeArtifact, OSError) as error:
                logger.error("The adapter %s is refused, search suggests alone: %s", adapter, error)
                self._refused[adapter] = time.monotonic()


def _has_learning_stack() -> bool:
    return find_spec("transformers") is not None


def _model_of(base: BaseModel) -> LocalModel | ServerProposer:
    folder = fetch_folder(base.digest) if base.digest else base.reference
    prompt = get_prompt(base.prompt_version)
    if not settings.LLM_URL:
        return LocalModel.open(folder, prompt=prompt, revision=base.revision)
    return ServerProposer.open(
        folder,
        prompt=prompt,
        revision=base.revision,
        url=settings.LLM_URL,
        key=settings.LLM_KEY,
        model=settings.LLM_MODEL,
        allowed_hosts=settings.LLM_ALLOWED_HOSTS,
    )


_model = _Model()
