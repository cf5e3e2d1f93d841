"""Scoring and indexing in a process of its own, while the importer reads and stores. Touches no database.

The importer starts it fresh (not forked), so nothing here may import the models.
"""

import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass, replace
from multiprocessing import parent_process
from threading import Thread

from extraction.risk import RiskModel
from extraction.search import Document, PutFailure, SearchEngine, get_engine


@dataclass(frozen=True, slots=True)
class Entry:
    """What the index has of an item now. Without the text: it would travel back to the importer for nothing."""

    id: int
    version: int
    risk: float | None


@dataclass(frozen=True, slots=True)
class Indexed:
    """What became of a chunk: the entries that the index took, and the documents that it refused."""

    entries: list[Entry]
    failures: list[PutFailure]


class _Worker:
    engine: SearchEngine
    risk: RiskModel | None


def start(risk: RiskModel | None) -> None:
    """Set the process up: it leaves Ctrl-C to its parent, which ends it in good order, and dies with it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Thread(target=_end_with_parent, daemon=True).start()
    _Worker.engine, _Worker.risk = get_engine(), risk


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def work(documents: Sequence[Document]) -> Indexed:
    """One chunk, in the process that `start` set up."""
    return score_and_put(documents, _Worker.engine, _Worker.risk)


def score_and_put(documents: Sequence[Document], engine: SearchEngine, risk: RiskModel | None) -> Indexed:
    """Score the documents that have no risk yet, then put all of them, so that none is searchable unscored."""
    scored = with_risk(documents, risk)
    failures = engine.put(scored)
    refused = {failure.id for failure in failures}
    taken = (document for document in scored if document.id not in refused)
    return Indexed([Entry(document.id, document.version, document.risk) for document in taken], failures)


def with_risk(documents: Sequence[Document], risk: RiskModel | None) -> list[Document]:
    """The documents, each with a risk where there is a model."""
    unscored = [document for document in documents if document.risk is None]
    if risk is None or not unscored:
        return list(documents)
    scores = dict(
        zip(
            (document.id for document in unscored),
            risk.score(document.text for document in unscored).tolist(),
            strict=True,
        )
    )
    return [replace(document, risk=scores.get(document.id, document.risk)) for document in documents]
