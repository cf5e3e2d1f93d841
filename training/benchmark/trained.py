"""What the trained baselines share: what they learn from, and where their models are kept.

All learn D of the simulated log (training/benchmark/logged.py), as the language models do: train reports with the
queries that people ran from them. One thread and a seed make a training repeatable.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from extraction.suggest import MASK
from extraction.text import Analysis, MatchMode
from training.benchmark.choice import MethodUnavailable
from training.benchmark.logged import logged_queries
from training.benchmark.phrases import query_lengths
from training.benchmark.suites import Task, Training


@dataclass(frozen=True)
class Example:
    """A train report as tokens, and its logged queries as token lists, each of which stands in it."""

    tokens: tuple[str, ...]
    phrases: tuple[tuple[str, ...], ...]


def examples(training: Training) -> list[Example]:
    """D of the simulated log, a report at a time. Raises MethodUnavailable where no query can be learned from."""
    rules, queries = training.analysis, logged_queries(training)
    found = []
    for report in training.reports:
        keys = dict.fromkeys(rules.key(query, MatchMode.PHRASE) for query in queries[report.id])
        phrases = tuple(tuple(key.split()) for key in keys if can_stand(key, report.text, rules))
        if phrases:
            found.append(Example(tuple(rules.tokens(report.text, MatchMode.PHRASE)), phrases))
    if not found:
        raise MethodUnavailable("no train report has a query to learn from.")
    return found


def can_stand(key: str, text: str, analysis: Analysis) -> bool:
    """True if the key is a query that a suite allows and stands in the text."""
    tokens = key.split()
    is_query = len(tokens) in query_lengths(analysis) and MASK not in tokens
    return is_query and analysis.matches(text, key, MatchMode.PHRASE)


def need_torch() -> None:
    if find_spec("torch") is None or find_spec("transformers") is None:
        raise MethodUnavailable("the learning stack is not installed: run `install_learning`.")


@contextmanager
def repeatable(seed: int) -> Iterator[None]:
    """PyTorch on one thread and from a seed, as it was before afterwards."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            yield
    finally:
        torch.set_num_threads(threads)


def kept_in(task: Task, name: str, settings: Mapping[str, object], learned: Sequence[Example]) -> Path:
    """The folder of a model: one for each method, setting, seed and training data. It may not exist yet."""
    digest = hashlib.sha256(json.dumps([settings, task.seed], sort_keys=True).encode())
    for example in learned:
        digest.update(json.dumps([example.tokens, example.phrases]).encode())
    return task.work / f"{name}-{digest.hexdigest()[:16]}"
