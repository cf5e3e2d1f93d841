"""The ablation of the paper's table 6: every recipe of it trained, each adapter evaluated, one table.

The paper varies the SFT data (D, D_cat, D + D_cat), the preference data (D_comp, D_comp2) and the base model. Its
second base, ChatGLM3-6B, needs remote code and is not reproduced: name another base beside the first.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from audit.models import JobState
from extraction.models import Adapter, BaseModel
from training.config import load_recipe
from training.evaluate import create_evaluation
from training.following import follow
from training.jobs import evaluate_job
from training.models import Evaluation, EvaluationSet, Run
from training.presentation.runs import step_words
from training.services import launch

RECIPES = ("paper-d", "paper-cat", "paper", "paper-comp2")
HEAD = (
    "Base",
    "Trained on",
    "Number of hit@100",
    "# Queries",
    "# Effective Queries",
    "Query Hit Rate",
    "Unique toxic",
    "Precision@100",
)


class TableFailed(Exception):
    """A row of the table cannot be made; the sentence says which and why."""


@dataclass(frozen=True)
class Row:
    """One adapter of the table. `figures` are those of its evaluation (training.gate.Figures)."""

    base: str
    trained_on: str
    adapter: str
    evaluation: int
    figures: dict[str, Any]


def make(
    bases: Sequence[BaseModel],
    tests: EvaluationSet,
    *,
    seed: int,
    until: datetime,
    say: Callable[[str], None],
    recipes: Sequence[str] = RECIPES,
) -> list[Row]:
    """Train and evaluate what is not there yet, on the log up to `until`; the rows of the table.

    Called again after an interruption it goes on. Raises TableFailed, Interrupted.
    """
    rows: dict[int, Row] = {}
    for base in bases:
        for name in recipes:
            runs = follow(
                launch(recipe=name, base=base, evaluation_set=tests, seed=seed, until=until, reuses=True), say=say
            )
            words = step_words(load_recipe(name), None)
            for number, run in enumerate(runs, start=1):
                adapter = _adapter(run)
                if adapter.pk not in rows:
                    evaluation = _evaluated(adapter, tests, say)
                    trained_on = ", ".join(words[:number])
                    rows[adapter.pk] = Row(base.name, trained_on, adapter.name, evaluation.pk, evaluation.figures)
    return list(rows.values())


def as_markdown(rows: Sequence[Row]) -> Iterator[str]:
    """The table, one line at a time."""
    yield f"| {' | '.join(HEAD)} |"
    yield f"|{'---|' * len(HEAD)}"
    for row in rows:
        figures = row.figures
        precision = "–" if figures["precision"] is None else f"{figures['precision']:.3f}"
        counts = [f"{figures[name]:,}" for name in ("hits", "queries", "effective")]
        cells = [
            row.base,
            row.trained_on,
            *counts,
            f"{figures['query_hit_rate']:.3f}",
            f"{figures['unique']:,}",
            precision,
        ]
        yield f"| {' | '.join(cells)} |"


def as_json(rows: Sequence[Row]) -> list[dict[str, Any]]:
    return [asdict(row) for row in rows]


def _adapter(run: Run) -> Adapter:
    if run.adapter is None:
        raise TableFailed(f"Run {run.pk} made no adapter: {run.error or run.get_state_display()}")
    return run.adapter


def _evaluated(adapter: Adapter, tests: EvaluationSet, say: Callable[[str], None]) -> Evaluation:
    """The evaluation of an adapter on the set; one that is there serves."""
    done = Evaluation.objects.filter(adapter=adapter, evaluation_set=tests, state=JobState.DONE).first()
    if done is not None:
        return done
    say(f"{adapter}: evaluated on {tests}")
    evaluation = create_evaluation(adapter, tests)
    evaluate_job(evaluation.pk)
    evaluation.refresh_from_db()
    if evaluation.state != JobState.DONE:
        raise TableFailed(f"{adapter} could not be evaluated: {evaluation.error}")
    return evaluation
