"""Rows with sensible defaults, one function a model; whatever a test cares about it passes as a keyword.

A missing parent is made; a given child names its parents (`make_exposure(item=…)` shows that item's current text).
"""

import uuid
from datetime import datetime, timedelta
from hashlib import sha256
from itertools import count
from typing import Any

from django.contrib.auth.models import Group, User
from django.utils import timezone

from audit.models import (
    Arm,
    Complaint,
    Decision,
    DecisionKind,
    Exploration,
    ExplorationQuery,
    Exposure,
    Item,
    ItemState,
    ItemText,
    JobState,
    Judgment,
    OutboxEvent,
    OutboxPublication,
    Outcome,
    Policy,
    PolicyVersion,
    Pool,
    PoolItem,
    Query,
    QueryRun,
    QuerySource,
    Removal,
    RemovalKind,
    Report,
    ReportEvent,
    ReportEventKind,
    ReportStatus,
    RunState,
    StandingVerdict,
    Suggestion,
    SuggestionBatch,
    Verdict,
)
from extraction.models import Adapter, AdapterKind, AdapterPromotion, BaseModel
from extraction.text import CURRENT_ANALYSIS, MatchMode, detect_language, get_analysis
from training.models import Dataset, DatasetKind, Evaluation, EvaluationSet, GateVerdict, Run
from training.models import RunState as TrainingState

_numbers = count(1)


def make_user(username: str = "", *, role: str = "", password: str = "", **kwargs: Any) -> User:
    """A user of a role ("auditor", "admin", "researcher"; none: a stranger with an account)."""
    user = User.objects.create_user(username or f"user{next(_numbers)}", password=password or None, **kwargs)
    if role:
        user.groups.add(Group.objects.get(name=role))
    if role == "admin":
        user.is_staff = True
        user.save(update_fields=["is_staff"])
    return user


def make_policy(key: str = "", *, name: str = "", with_version: bool = True) -> Policy:
    """A policy with its first version."""
    key = key or f"policy-{next(_numbers)}"
    policy = Policy.objects.create(key=key, name=name or key.replace("-", " ").capitalize())
    if with_version:
        make_policy_version(policy=policy)
    return policy


def make_policy_version(*, policy: Policy | None = None, **kwargs: Any) -> PolicyVersion:
    """The next version of a policy."""
    policy = policy or make_policy(with_version=False)
    values: dict[str, Any] = {
        "number": policy.versions.count() + 1,
        "text": "What is not allowed.",
        "toxic": "It offers the thing.",
        "normal": "It only speaks of it.",
        "cant_tell": "It needs more than the text.",
    }
    return PolicyVersion.objects.create(policy=policy, **(values | kwargs))


def make_item(text: str = "", *, language: str = "", text_at: datetime | None = None, **kwargs: Any) -> Item:
    """A live item with its current text."""
    number = next(_numbers)
    values: dict[str, Any] = {
        "platform": "market",
        "external_id": f"i{number}",
        "author_key": f"author{number}",
        "created": timezone.now() - timedelta(days=1),
        "state": ItemState.LIVE,
    }
    item = Item.objects.create(**(values | kwargs))
    item.text = make_item_text(text or f"cheap diploma number {number}", item=item, language=language, at=text_at)
    item.save(update_fields=["text"])
    return item


def make_item_text(
    text: str = "", *, item: Item | None = None, language: str = "", at: datetime | None = None
) -> ItemText:
    """One version of an item's text; the item's current text stays what it is."""
    item = item or make_item()
    text = text or f"a text of its own {next(_numbers)}"
    key = get_analysis(CURRENT_ANALYSIS).key(text, MatchMode.PHRASE)
    return ItemText.objects.create(
        item=item,
        text=text,
        text_hash=sha256(text.encode()).hexdigest(),
        norm_hash=sha256(key.encode()).hexdigest(),
        analysis=CURRENT_ANALYSIS,
        language=language or detect_language(text),
        at=at or timezone.now(),
    )


def make_report(*, item: Item | None = None, policy: Policy | None = None, text: str = "", **kwargs: Any) -> Report:
    """A waiting report about an item. A closed one gets the outcome confirmed where none is given."""
    item = item or make_item(text)
    values: dict[str, Any] = {
        "item_text": item.text,
        "status": ReportStatus.WAITING,
        "opened": timezone.now(),
        "complaint_count": 1,
    }
    values |= kwargs
    values.setdefault("due", values["opened"] + timedelta(hours=24))
    if values["status"] == ReportStatus.CLOSED:
        values.setdefault("outcome", Outcome.CONFIRMED)
        values.setdefault("closed", timezone.now())
    return Report.objects.create(item=item, policy=policy or make_policy(), **values)


def make_claimed_report(*, user: User, **kwargs: Any) -> Report:
    """A report that `user` holds, with a lease of ten minutes, being explored."""
    now = timezone.now()
    values: dict[str, Any] = {
        "status": ReportStatus.EXPLORING,
        "confirmed": now,
        "claimed_by": user,
        "lease_until": now + timedelta(minutes=10),
    }
    return make_report(**(values | kwargs))


def make_complaint(*, report: Report | None = None, **kwargs: Any) -> Complaint:
    report = report or make_report()
    number = next(_numbers)
    values: dict[str, Any] = {
        "item_text": report.item_text,
        "policy": report.policy,
        "platform": report.item.platform,
        "external_id": f"c{number}",
        "reporter_key": f"reporter{number}",
        "reason": "It sells forged papers.",
        "at": timezone.now(),
    }
    return Complaint.objects.create(report=report, **(values | kwargs))


def make_report_event(*, report: Report | None = None, **kwargs: Any) -> ReportEvent:
    values: dict[str, Any] = {"kind": ReportEventKind.OPENED}
    return ReportEvent.objects.create(report=report or make_report(), **(values | kwargs))


def make_query(text: str = "", *, mode: MatchMode = MatchMode.PHRASE, analysis: str = CURRENT_ANALYSIS) -> Query:
    """The query of this text and mode; a second call with an equal one gives the same row."""
    text = text or f"phrase {next(_numbers)}"
    key = get_analysis(analysis).key(text, mode)
    return Query.objects.get_or_create(analysis=analysis, mode=mode, key=key, defaults={"text": text})[0]


def make_batch(*, report: Report | None = None, **kwargs: Any) -> SuggestionBatch:
    """A batch of suggestions of the suggester `search`."""
    report = report or make_report()
    values: dict[str, Any] = {
        "item_text": report.item_text,
        "policy_version": report.policy.current(),
        "suggester": "search",
        "suggester_version": "1/r1",
        "index_generation": "items-1",
        "tried": 40,
    }
    return SuggestionBatch.objects.create(report=report, **(values | kwargs))


def make_suggestion(
    text: str = "", *, report: Report | None = None, batch: SuggestionBatch | None = None, **kwargs: Any
) -> Suggestion:
    """A suggestion of the report's shown batch, which is made (and becomes the shown one) where there is none."""
    if batch is None:
        report = report or make_report()
        batch = report.batch
        if batch is None:
            batch = report.batch = make_batch(report=report)
            report.suggestions_state = "ready"
            report.save(update_fields=["batch", "suggestions_state"])
    query = kwargs.pop("query", None) or make_query(text)
    values: dict[str, Any] = {
        "text": query.text,
        "rank": batch.suggestions.count() + 1,
        "estimate": 0.5,
        "novelty": 1.0,
        "matches": 12,
        "unseen": 10,
        "overlap": 0,
        "past_toxic": 3,
        "past_judged": 4,
    }
    return Suggestion.objects.create(batch=batch, report=batch.report, query=query, **(values | kwargs))


def make_decision(
    *, report: Report | None = None, suggestion: Suggestion | None = None, text: str = "", **kwargs: Any
) -> Decision:
    """An accepted suggestion; without a suggestion, an own query of `text`; with `undoes`, its undoing."""
    kind = kwargs.get("kind")
    undone: Decision | None = kwargs.get("undoes")
    if undone is not None:
        return Decision.objects.create(
            **(
                {"report": undone.report, "suggestion": undone.suggestion, "arm": undone.arm, "user": undone.user}
                | kwargs
            ),
            kind=DecisionKind.UNDONE,
        )
    values: dict[str, Any] = {"arm": Arm.VISIBLE, "duration_ms": 2400}
    if suggestion is None:
        query = kwargs.pop("query", None) or make_query(text)
        values |= {"kind": DecisionKind.OWN, "query": query, "source": QuerySource.HUMAN, "text": query.text}
        report = report or make_report()
    else:
        report = suggestion.report
        values |= {"kind": DecisionKind.ACCEPTED, "shown_rank": suggestion.rank, "matches": suggestion.matches}
        values |= {"unseen": suggestion.unseen, "overlap": suggestion.overlap}
        values |= {"past_toxic": suggestion.past_toxic, "past_judged": suggestion.past_judged}
        if kind == DecisionKind.EDITED:
            query = make_query(text)
            values |= {"query": query, "source": QuerySource.HUMAN, "text": query.text}
        elif kind != DecisionKind.REJECTED:
            values |= {"query": suggestion.query, "source": QuerySource.MODEL, "text": suggestion.text}
    user = kwargs.pop("user", None) or make_user()
    return Decision.objects.create(report=report, suggestion=suggestion, user=user, **(values | kwargs))


def make_exploration(*, decisions: list[Decision] | None = None, **kwargs: Any) -> Exploration:
    """A finished exploration of these decisions: one place for each distinct query, no run yet."""
    decisions = decisions if decisions is not None else [make_decision()]
    now = timezone.now()
    values: dict[str, Any] = {"state": RunState.DONE, "started": now, "finished": now}
    if "created_by" not in kwargs:
        values["created_by"] = decisions[0].user if decisions else make_user()
    exploration = Exploration.objects.create(**(values | kwargs))
    for decision in decisions:
        assert decision.query is not None
        place, _created = ExplorationQuery.objects.get_or_create(
            exploration=exploration,
            query=decision.query,
            defaults={"position": exploration.queries.count() + 1, "state": exploration.state},
        )
        place.decisions.add(decision)
    return exploration


def make_run(
    *, exploration_query: ExplorationQuery | None = None, items: list[Item] | None = None, **kwargs: Any
) -> QueryRun:
    """A run of one place of an exploration that ranked `items`, in this order."""
    if exploration_query is None:
        exploration_query = make_exploration().queries.get()
    items = items or []
    values: dict[str, Any] = {
        "engine": "fts5",
        "index_generation": "items-1",
        "analysis": CURRENT_ANALYSIS,
        "risk_version": 1,
        "live": len(items),
        "removed": 0,
        "ranking": [[item.pk, item.risk] for item in items],
        "took_ms": 3.5,
    }
    return QueryRun.objects.create(
        exploration_query=exploration_query, query=exploration_query.query, **(values | kwargs)
    )


def make_exposure(*, run: QueryRun | None = None, item: Item | None = None, **kwargs: Any) -> Exposure:
    """An item's current text, shown at the next free rank of the run."""
    run = run or make_run()
    item = item or make_item()
    values: dict[str, Any] = {"rank": run.exposures.count() + 1, "item_text": item.text}
    values |= kwargs
    values.setdefault("position", values["rank"])
    values.setdefault("page", 1)
    values.setdefault("user", run.exploration_query.exploration.created_by)
    return Exposure.objects.create(run=run, item=item, **values)


def make_pool_item(text: str = "", *, pool: Pool | None = None, item: Item | None = None, **kwargs: Any) -> PoolItem:
    """An item's current text, at the next place of an open pool."""
    item = item or make_item(text)
    pool = pool or Pool.objects.create(name=f"pool-{next(_numbers)}")
    values: dict[str, Any] = {"item_text": item.text, "position": pool.items.count() + 1}
    values |= kwargs
    if "policy_version" not in values:
        values["policy_version"] = make_policy().current()
    return PoolItem.objects.create(pool=pool, **values)


def make_judgment(
    *,
    exposure: Exposure | None = None,
    report: Report | None = None,
    pool_item: PoolItem | None = None,
    stands: bool = True,
    **kwargs: Any,
) -> Judgment:
    """A toxic judgment on an exposure, a report's text or a pooled text; with `undoes`, its undoing.

    `stands` keeps StandingVerdict in step as the service does: each person's newest counts, two that differ dispute it.
    """
    undone: Judgment | None = kwargs.get("undoes")
    values: dict[str, Any] = {"verdict": Verdict.TOXIC, "duration_ms": 1500}
    if undone is not None:
        values = {"item_text": undone.item_text, "policy_version": undone.policy_version, "user": undone.user}
        values |= {"exposure": undone.exposure, "report": undone.report, "pool_item": undone.pool_item, "verdict": ""}
    elif report is not None:
        values |= {"item_text": report.item_text, "report": report, "policy_version": report.policy.current()}
    elif pool_item is not None:
        values |= {"item_text": pool_item.item_text, "pool_item": pool_item, "policy_version": pool_item.policy_version}
    else:
        exposure = exposure or make_exposure()
        values |= {"item_text": exposure.item_text, "exposure": exposure}
        if "policy_version" not in kwargs:
            decision = exposure.run.exploration_query.decisions.first()
            values["policy_version"] = decision.report.policy.current() if decision else make_policy_version()
    if "user" not in values and "user" not in kwargs:
        values["user"] = make_user()
    judgment = Judgment.objects.create(**(values | kwargs))
    if stands:
        _restate(judgment)
    return judgment


def _restate(judgment: Judgment) -> None:
    about: dict[str, Any] = {"item_text_id": judgment.item_text_id, "policy_version_id": judgment.policy_version_id}
    newest = {judgment.user_id: judgment for judgment in Judgment.objects.standing().filter(**about)}
    verdicts = {judgment.verdict for judgment in newest.values()}
    StandingVerdict.objects.update_or_create(
        **about,
        defaults={
            "verdict": verdicts.pop() if len(verdicts) == 1 else "",
            "is_disputed": len(newest) > 1 and len(verdicts) > 1,
            "judgment": max(newest.values(), key=lambda one: one.pk, default=judgment),
        },
    )


def make_removal(*, item: Item | None = None, judgment: Judgment | None = None, **kwargs: Any) -> Removal:
    """An item leaves the results (or, with kind reinstated, comes back); its state follows."""
    if item is None:
        item = judgment.item_text.item if judgment else make_item()
    values: dict[str, Any] = {"kind": RemovalKind.REMOVED, "user": judgment.user if judgment else None}
    values |= kwargs
    values["user"] = values["user"] or make_user()
    removal = Removal.objects.create(item=item, judgment=judgment, **values)
    item.state = ItemState.REMOVED if removal.kind == RemovalKind.REMOVED else ItemState.LIVE
    item.version += 1
    item.save(update_fields=["state", "version"])
    return removal


def make_outbox_event(*, item: Item | None = None, sequence: int | None = None, **kwargs: Any) -> OutboxEvent:
    """An event for the platform; published under `sequence` where one is given."""
    values: dict[str, Any] = {"kind": "removed", "payload": {"verdict": "toxic"}}
    event = OutboxEvent.objects.create(item=item or make_item(), **(values | kwargs))
    if sequence is not None:
        OutboxPublication.objects.create(sequence=sequence, event=event)
    return event


def make_digest(of: object = "") -> str:
    """A digest that nothing in the storage has: of this, else one of its own."""
    return sha256(f"{of or next(_numbers)}".encode()).hexdigest()


def make_base(name: str = "", **kwargs: Any) -> BaseModel:
    """A base model's row; its files are not in the storage."""
    values: dict[str, Any] = {
        "digest": make_digest(),
        "weights_hash": make_digest(),
        "tokenizer_hash": make_digest("tokenizer"),
        "template_hash": make_digest("template"),
        "prompt_version": "zh-1",
        "parameters": 405_120,
        "profile": "tiny",
    }
    return BaseModel.objects.create(name=name or f"tiny-{next(_numbers)}", **(values | kwargs))


def make_adapter(name: str = "", *, base: BaseModel | None = None, **kwargs: Any) -> Adapter:
    """An SFT adapter's row; its weights are not in the storage."""
    base = base or make_base()
    values: dict[str, Any] = {
        "kind": AdapterKind.SFT,
        "digest": make_digest(),
        "tokenizer_hash": base.tokenizer_hash,
        "template_hash": base.template_hash,
        "prompt_version": base.prompt_version,
    }
    values |= kwargs
    return Adapter.objects.create(name=name or f"{values['kind']}-{next(_numbers)}", base=base, **values)


def make_promotion(*, adapter: Adapter | None = None, **kwargs: Any) -> AdapterPromotion:
    """An adapter takes a role: it serves, where no other role is given."""
    return AdapterPromotion.objects.create(adapter=adapter or make_adapter(), **kwargs)


def make_evaluation_set(name: str = "", *, reports: list[Report] | None = None, **kwargs: Any) -> EvaluationSet:
    """A frozen set of these reports."""
    values: dict[str, Any] = {
        "cutoff": timezone.now() - timedelta(days=1),
        "reports": [[report.pk, report.item_text_id] for report in reports or []],
        "clusters": [],
        "items": 0,
        "digest": make_digest(),
    }
    return EvaluationSet.objects.create(name=name or f"test-{next(_numbers)}", **(values | kwargs))


def make_dataset(name: str = "", **kwargs: Any) -> Dataset:
    """A finished build of D; its rows are not in the storage."""
    now = timezone.now()
    values: dict[str, Any] = {
        "kind": DatasetKind.SFT,
        "state": JobState.DONE,
        "until": now,
        "rows_in": 120,
        "rows_out": 96,
        "dropped": {"too_long": 20, "too_short": 4},
        "card": {"shares": {"own": 0.6, "accepted": 0.4}},
        "digest": make_digest(),
        "finished": now,
    }
    values |= kwargs
    return Dataset.objects.create(name=name or f"{values['kind']}-{next(_numbers)}", **values)


def make_learning_run(*, dataset: Dataset | None = None, **kwargs: Any) -> Run:
    """A training run that is over and made an adapter; with another state it has none, unless one is given."""
    now = timezone.now()
    values: dict[str, Any] = {"kind": AdapterKind.SFT, "recipe": "small", "config": {}, "state": TrainingState.DONE}
    values |= kwargs
    if "base" not in values:
        values["base"] = values["adapter"].base if values.get("adapter") else make_base()
    if values["state"] == TrainingState.DONE:
        values.setdefault("adapter", make_adapter(base=values["base"], kind=values["kind"]))
        values |= {"step": 40, "max_steps": 40} | kwargs
        values.setdefault("started", now - timedelta(minutes=2))
        values.setdefault("finished", now)
    return Run.objects.create(dataset=dataset or make_dataset(), **values)


def make_evaluation(*, adapter: Adapter | None = None, **kwargs: Any) -> Evaluation:
    """An evaluation that is over and that the gate passed; its figures are whatever the test gives."""
    values: dict[str, Any] = {
        "state": JobState.DONE,
        "verdict": GateVerdict.PASSES,
        "finished": timezone.now(),
    }
    values |= kwargs
    if "evaluation_set" not in values:
        values["evaluation_set"] = make_evaluation_set()
    return Evaluation.objects.create(adapter=adapter or make_adapter(), **values)


def make_key() -> uuid.UUID:
    """The key that a page gives a recording POST."""
    return uuid.uuid4()
