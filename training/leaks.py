"""Whether an adapter has learned from a text that is nearly the same as a report of a frozen set.

Computed from what was really trained on: the rows of every dataset of the adapter and of the adapters that it started
from, and the texts of a base that was made here. What a build says it left out is not taken for granted.
"""

import json
from collections.abc import Iterator, Sequence

from audit.models import ItemText
from extraction.artifacts import DamagedArtifact, open_artifact
from extraction.models import Adapter, BaseModel
from training.base_model import PROFILES, digest_of, own_texts
from training.gate import Leaks
from training.models import Dataset, EvaluationSet, Run
from training.near import near_to

_CHUNK = 2_000


def find_leaks(adapter: Adapter, evaluation_set: EvaluationSet) -> Leaks:
    """Training texts in a near-duplicate cluster with a test report, by where they are."""
    seeds = _seeds(evaluation_set)
    found: dict[str, int] = {}
    unknown: list[str] = []
    datasets, untold = _datasets_of(adapter)
    unknown += [f"adapter {name}" for name in untold]
    for dataset in datasets:
        try:
            found[f"dataset {dataset}"] = len(near_to(seeds, enumerate(learned_texts(dataset))))
        except DamagedArtifact:
            unknown.append(f"dataset {dataset}")
    found[f"base {adapter.base}"] = _in_base(adapter.base, seeds)
    return Leaks({name: count for name, count in found.items() if count}, unknown)


def _seeds(evaluation_set: EvaluationSet) -> list[str]:
    text_ids = [text_id for _report_id, text_id in evaluation_set.reports]
    return list(ItemText.objects.filter(pk__in=text_ids).exclude(text="").order_by("pk").values_list("text", flat=True))


def _datasets_of(adapter: Adapter) -> tuple[list[Dataset], list[str]]:
    """The datasets of an adapter and of all that it started from, and the names of those without a run to tell."""
    datasets: dict[int, Dataset] = {}
    untold: list[str] = []
    current: Adapter | None = adapter
    while current is not None:
        run = Run.objects.filter(adapter=current).select_related("dataset", "start").first()
        if run is None:
            untold.append(current.name)
        else:
            datasets[run.dataset_id] = run.dataset
        current = (run.start if run else None) or current.parent
    return list(datasets.values()), untold


def learned_texts(dataset: Dataset) -> Iterator[str]:
    """Every reported text in the rows of a dataset; a joined sample gives each of its texts."""
    with open_artifact(dataset.digest) as file:
        for line in file:
            row = json.loads(line)
            start = 0
            for length in row["lengths"]:
                yield row["content"][start : start + length]
                start += length + 1  # the separator


def _in_base(base: BaseModel, seeds: Sequence[str]) -> int:
    """How many texts of a base made here are near to the test reports. One of a model hub knows none of our texts.

    Which texts it read is tried: all of them, or all without what the set that its card names keeps out; their digest
    tells. Where neither fits, because some were erased since, the card is believed.
    """
    if base.data_until is None:
        return 0
    texts = ItemText.objects.filter(at__lte=base.data_until).exclude(text="").order_by("pk").values_list("pk", "text")
    near = near_to(seeds, texts.iterator(_CHUNK))
    if not near:
        return 0
    named = EvaluationSet.objects.filter(name=base.card.get("excluded", "")).first()
    for excluded in (named, None):
        read = own_texts(until=base.data_until, excluded=excluded, most=PROFILES[base.profile].most_texts)
        if digest_of(read) == base.data_digest:
            return len(near_to(seeds, enumerate(read)))
    kept_out = near_to(_seeds(named), texts.iterator(_CHUNK)) if named else frozenset()
    return len(near - kept_out)
