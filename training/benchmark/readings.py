"""The risk models of a benchmark: one for each reading of what may be learned from, and the control.

Sources differ in style. A model that learned nothing but to tell them apart finds toxic items too, where these stand in
few sources: the control row shows how many, and the *excess* of every row takes that part off.
"""

from functools import lru_cache

from extraction import risk
from training.benchmark.choice import MethodUnavailable
from training.benchmark.logged import judged_items
from training.benchmark.options import LearnFrom
from training.benchmark.suites import Task, Training


@lru_cache(maxsize=1)
def rows_of(training: Training, reading: LearnFrom) -> list[int]:
    """Ids of the train items that a risk model may learn from, ascending."""
    if reading is LearnFrom.LOGGED:
        return judged_items(training)
    if reading is LearnFrom.ALL:
        return sorted(item.id for item in training.items)
    sources = _toxic_sources(training)
    return sorted(item.id for item in training.items if item.source in sources)


def risk_of(task: Task) -> risk.RiskModel:
    """The risk model that the task's options allow. Raises MethodUnavailable where that is of one kind only."""
    try:
        return _fitted(task.training, task.options.learn_from, task.seed)
    except risk.OneClassOnly as error:
        raise MethodUnavailable(f"{task.options.learn_from}: all items to learn from are of one kind.") from error


def control_of(task: Task) -> risk.RiskModel:
    """A model that only knows the sources: does a normal train item come from one that holds toxic items?

    Raises MethodUnavailable where all sources do, or none is named.
    """
    try:
        return _control(task.training, task.seed)
    except risk.OneClassOnly as error:
        raise MethodUnavailable("every source of the train split holds toxic items: there is no control.") from error


@lru_cache(maxsize=1)
def _control(training: Training, seed: int) -> risk.RiskModel:
    normal = [item for item in training.items if not item.toxic]
    sources = _toxic_sources(training)
    return _fit([item.text for item in normal], [item.source in sources for item in normal], training, seed)


@lru_cache(maxsize=1)
def _fitted(training: Training, reading: LearnFrom, seed: int) -> risk.RiskModel:
    ids = rows_of(training, reading)
    return _fit([training.searcher.text_of(id) for id in ids], [id in training.toxic for id in ids], training, seed)


def _fit(texts: list[str], labels: list[bool], training: Training, seed: int) -> risk.RiskModel:
    weights = [1.0] * len(texts)
    return risk.fit(texts, [int(label) for label in labels], weights, analysis=training.analysis.name, seed=seed)


def _toxic_sources(training: Training) -> set[str]:
    return {item.source for item in training.items if item.toxic}
