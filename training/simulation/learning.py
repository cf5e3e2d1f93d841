"""What a site learns at the end of a round, by the services of the Training page: risk model, SFT, DPO, gate."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

from audit import indexing, risk_training
from audit.presentation.pool import waiting
from extraction.models import AdapterRole, BaseModel
from extraction.registry import adapter_in, promote_adapter
from extraction.search import get_engine
from training import jobs
from training.datasets import NothingToBuild, Options, preview
from training.evaluate import decide
from training.models import DatasetKind, Evaluation, EvaluationSet, GateVerdict, Run, RunState
from training.services import launch
from training.simulation.auditor import Auditor
from training.simulation.queues import work_off
from training.simulation.settings import Plan

Figures = dict[str, Any]
MidTraining = Callable[[], None]
"""Called when the first training waits in its queue."""


def learn_risk(until: datetime) -> Figures:
    """Refit the risk model on the log, let it serve if its check allows, and score the collection anew."""
    row = risk_training.refit(at=until)
    if row is None:
        return {"version": None}
    if not row.refusal:
        indexing.rescore()
        get_engine().refresh()
    return {"version": row.version, "toxic": row.positives, "normal": row.negatives, "refusal": row.refusal}


def learn_queries(
    plan: Plan, auditor: Auditor, *, until: datetime, seed: int, gated: bool, mid_training: MidTraining | None = None
) -> Figures:
    """Datasets, SFT, DPO, evaluation, and the gate's word; not `gated`, the new adapter serves without it."""
    base, tests = BaseModel.objects.get(), EvaluationSet.objects.get()
    runs = launch(
        recipe=plan.recipe,
        base=base,
        evaluation_set=tests,
        seed=seed,
        gate_decides=gated,
        until=until,
    )
    work_off("default", "data")
    if mid_training is not None:
        mid_training()
    work_off("default", "data", "train")
    pooled = _judge_for_the_gate(auditor) if gated else 0
    for run in runs:
        run.refresh_from_db()
    last = runs[-1]
    if not gated and last.adapter is not None:
        promote_adapter(last.adapter, seen=adapter_in(AdapterRole.SERVING), reason="No gate in this arm.")
    return {
        "adapter": last.adapter.name if last.adapter else None,
        "state": last.state,
        "error": " ".join(run.error for run in runs if run.error),
        "rows": {run.dataset.kind: run.dataset.rows_out for run in runs},
        "d_comp": _size_of_d_comp(base, until, tests),
        "pooled": pooled,
        "gate": _gate(last),
    }


def _judge_for_the_gate(auditor: Auditor) -> int:
    """Judge what the evaluation asks for until the gate decides; how many texts that took."""
    judged = 0
    undecided = Evaluation.objects.filter(verdict=GateVerdict.UNDECIDED).select_related("adapter", "evaluation_set")
    while evaluation := undecided.first():
        items = list(waiting().select_related("item_text__item")[: evaluation.to_judge])
        if not items:
            break
        auditor.judge_pool(items)
        judged += len(items)
        jobs.settle(decide(evaluation))
    return judged


def _size_of_d_comp(base: BaseModel, until: datetime, tests: EvaluationSet) -> int:
    """How many preference pairs the log gives, whichever second step the recipe has."""
    try:
        options = Options(until=until, prompt_version=base.prompt_version)
        return preview(DatasetKind.COMP, options, excluded=tests).rows_out or 0
    except NothingToBuild:
        return 0


def _gate(run: Run) -> Figures:
    """What the evaluation of a run's adapter says, on the frozen set."""
    evaluation = Evaluation.objects.filter(adapter=run.adapter).order_by("pk").last() if run.adapter else None
    if evaluation is None:
        return {}
    unique: Figures = next((rule["figures"] for rule in evaluation.gate if rule["rule"] == "unique"), {})
    return {
        "verdict": evaluation.verdict,
        "against": evaluation.baseline.name if evaluation.baseline else None,
        "unique": [unique.get("ours"), unique.get("theirs"), unique.get("low"), unique.get("high")],
        "failed": [rule["rule"] for rule in evaluation.gate if not rule["holds"]],
        "promoted": run.state == RunState.PROMOTED,
    }
