"""A language model that was trained for nothing here, asked as the product asks: the top 1 of its order of risk.

QExplorer section 4.2.1: the prompt wants the keywords in the order of their use, and the first is the query.
"""

from collections.abc import Sequence
from functools import lru_cache

from extraction.generation import LocalModel, ModelRefused, Proposed
from extraction.prompts import get_prompt
from extraction.text import MatchMode
from training.benchmark.choice import Choice, MethodUnavailable, best_of_each
from training.benchmark.suites import Task, TaskReport
from training.benchmark.trained import can_stand, need_torch

ASKED = 8


def zero_shot(task: Task) -> Choice:
    """The first keyword that the model names in each report and that can stand as a query, the surest first."""
    if not task.options.llm:
        raise MethodUnavailable("name a language model with --llm.")
    need_torch()
    is_spaced = task.analysis.base == "bench-en-1"
    said = _named(task.reports, task.options.llm, is_spaced)
    first = [_first(report, own, task) for report, own in zip(task.reports, said, strict=True)]
    return best_of_each(task, first)


def _first(report: TaskReport, said: Sequence[Proposed], task: Task) -> list[tuple[float, str]]:
    keys = [(proposed.confidence, task.analysis.key(proposed.text, MatchMode.PHRASE)) for proposed in said]
    return [pair for pair in keys if can_stand(pair[1], report.text, task.analysis)][:1]


@lru_cache(maxsize=1)
def _named(reports: tuple[TaskReport, ...], model: str, is_spaced: bool) -> list[list[Proposed]]:
    """For each report the model's keywords in its order; the same for every index."""
    name, _at, revision = model.partition("@")
    prompt = get_prompt("en-1" if is_spaced else "zh-1")
    try:
        opened = LocalModel.open(name, prompt=prompt, revision=revision)
    except ModelRefused as error:
        raise MethodUnavailable(str(error)) from error
    return opened.propose([report.text for report in reports], [None] * len(reports), limit=ASKED)
