"""Refit the risk model on what the system logged, check the new version, let it serve or refuse it.

One model over all policies. Training rows: every text with an undisputed standing verdict (weight 1) and random
unlabelled items as negatives at low weight. While little is judged, the texts of open reports join as positives. What
was judged for the pool of an evaluation is left out: the model scores the candidates of D_pol, and an adapter that was
trained on those scores would be tested on verdicts that it has learned from.

The check: a tenth of the judged texts, chosen by their digest, is kept out of every model for good, and with them every
training row that is nearly the same text. A new version serves only if its log loss on them is not worse than that of
the serving model by more than a stated margin, both on all of them and on those judged before the serving model was
fitted: a wrong bulk verdict changes the new rows, and shows as damage on the old ones.
"""

import hashlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import Max
from django.utils import timezone
from scipy.sparse import csr_matrix

from audit.models import Item, ItemText, Judgment, Report, SiteSettings, StandingVerdict, Verdict
from extraction import risk
from extraction.artifacts import store_artifact
from extraction.models import RiskModel
from extraction.registry import promote_risk, serving_risk, serving_row
from extraction.search import get_attached, get_engine
from extraction.text import Analysis, get_analysis

logger = logging.getLogger(__name__)

HELD_OUT_OF = 10
MIN_HELD_OUT = 20
YOUNG = 100
"""Below so many judged texts the open reports count as toxic for the fit (nowhere else): the cure for a cold start."""
NEAR = 0.5


@dataclass(frozen=True)
class Row:
    """One training text: label 1 toxic, 0 normal; `at` of its standing judgment, None for an unlabelled item."""

    text: str
    label: int
    weight: float
    at: datetime | None


@dataclass(frozen=True)
class Check:
    """Losses in nats on the held-out texts; None where there were too few of a kind to compare on."""

    count: int
    candidate: float | None
    serving: float | None
    refusal: str


def refit(*, user_id: int | None = None, at: datetime | None = None) -> RiskModel | None:
    """Fit a new version and let it serve if the check allows; None where the rows hold one class only.

    Raises SearchError where the index cannot be sampled.
    """
    engine = get_engine()
    analysis = get_analysis(engine.analysis)
    judged = list(judged_rows())
    held_out = [row for row in judged if is_held_out(row.text)]
    kept = _without_near_copies([row for row in judged if not is_held_out(row.text)], held_out, analysis)
    positives = list(_reported_rows()) if len(judged) < YOUNG else []
    labels = {row.label for row in kept}
    weight = risk.UNLABELLED_WEIGHT if labels == {0, 1} else 1.0
    unlabelled = [Row(text, 0, weight, None) for text in _unlabelled_texts(seed=len(judged)) if not is_held_out(text)]
    rows = [*kept, *positives, *unlabelled]
    try:
        model = risk.fit(
            [row.text for row in rows],
            [row.label for row in rows],
            [row.weight for row in rows],
            analysis=engine.analysis,
        )
    except risk.OneClassOnly:
        return None
    checked = check(model, held_out)
    row = _store(model, kept=[*kept, *positives], unlabelled=unlabelled, checked=checked, at=at)
    if checked.refusal:
        logger.warning("Risk model %s does not serve: %s", row.version, checked.refusal)
    else:
        promote_risk(row, user_id=user_id, reason="refit", at=at)
    return row


def verdicts_since_fit() -> int:
    """How many judgments were recorded after the newest risk model was fitted."""
    newest = RiskModel.objects.order_by("version").last()
    judgments = Judgment.objects.filter(pool_item=None).exclude(verdict="")
    return judgments.count() if newest is None else judgments.filter(at__gt=newest.fitted).count()


def is_refit_due() -> bool:
    """After REFIT_EVERY new verdicts; while little is judged, also when the texts to learn from have doubled."""
    if verdicts_since_fit() >= settings.REFIT_EVERY:
        return True
    newest = RiskModel.objects.order_by("version").last()
    if newest is None or newest.positives + newest.negatives >= YOUNG:
        return False
    waiting = Report.objects.open().count() + StandingVerdict.objects.exclude(verdict="").count()
    return waiting >= 2 * (newest.positives + newest.negatives)


def check(model: risk.RiskModel, held_out: Sequence[Row]) -> Check:
    """Compare a new model with the serving one on texts that neither has learned from."""
    serving, served_from = serving_risk(), serving_row()
    if (
        serving is None
        or served_from is None
        or len({row.label for row in held_out}) < 2
        or len(held_out) < MIN_HELD_OUT
    ):
        return Check(len(held_out), _loss(model, held_out), None, "")
    old = [row for row in held_out if row.at is not None and row.at <= served_from.fitted]
    margin = SiteSettings.load().risk_margin
    for rows, which in ((held_out, "all"), (old, "earlier judged")):
        if len(rows) < MIN_HELD_OUT:
            continue
        new_loss, old_loss = _loss(model, rows), _loss(serving[1], rows)
        if new_loss is not None and old_loss is not None and new_loss > old_loss + margin:
            return Check(
                len(held_out),
                _loss(model, held_out),
                _loss(serving[1], held_out),
                f"log loss {new_loss:.4f} against {old_loss:.4f} on {len(rows)} {which} held-out texts, "
                f"worse by more than {margin}",
            )
    return Check(len(held_out), _loss(model, held_out), _loss(serving[1], held_out), "")


def is_held_out(text: str) -> bool:
    """A tenth of all texts, by digest: the same ones for every version."""
    return hashlib.sha256(text.encode()).digest()[0] % HELD_OUT_OF == 0


def judged_rows() -> Iterator[Row]:
    """Texts with an undisputed standing verdict of toxic or normal; toxic under any policy is toxic."""
    standing = (
        StandingVerdict.objects.filter(verdict__in=[Verdict.TOXIC, Verdict.NORMAL], judgment__pool_item=None)
        .exclude(item_text__text="")
        .order_by("item_text_id", "id")
        .values_list("item_text_id", "item_text__text", "verdict", "judgment__at")
    )
    current: Row | None = None
    current_id = None
    for text_id, text, verdict, at in standing.iterator(chunk_size=2_000):
        label = int(verdict == Verdict.TOXIC)
        if text_id != current_id and current is not None:
            yield current
        if text_id != current_id or label:
            current = Row(text, label, 1.0, at)
        current_id = text_id
    if current is not None:
        yield current


def _reported_rows() -> Iterator[Row]:
    """The texts of open reports that nobody has judged yet."""
    unjudged = Report.objects.open().filter(item_text__standing_verdicts=None).exclude(item_text__text="")
    for text in unjudged.order_by("pk").values_list("item_text__text", flat=True).iterator():
        yield Row(text, 1, 1.0, None)


def _unlabelled_texts(seed: int) -> Iterator[str]:
    """Texts of random live items that nobody has judged or reported."""
    attached = get_attached()
    if attached is not None:
        yield from (hit.text for hit in attached.sample_foreign(risk.UNLABELLED_ROWS, seed) if hit.state is None)
        return
    item_ids = get_engine().sample(risk.UNLABELLED_ROWS, seed)
    for start in range(0, len(item_ids), 5_000):
        texts = (
            ItemText.objects.filter(
                pk__in=Item.objects.filter(pk__in=item_ids[start : start + 5_000]).values("text_id"),
                standing_verdicts=None,
                reports=None,
            )
            .exclude(text="")
            .order_by("pk")
        )
        yield from texts.values_list("text", flat=True).iterator()


def _without_near_copies(rows: Sequence[Row], held_out: Sequence[Row], analysis: Analysis) -> list[Row]:
    """The rows that share less than half of their n-grams (Jaccard) with every held-out text."""
    if not rows or not held_out:
        return list(rows)
    left, right = _grams(rows, analysis), _grams(held_out, analysis)
    sizes, held_sizes = left.getnnz(axis=1), right.getnnz(axis=1)
    kept: list[Row] = []
    for start in range(0, len(rows), 2_000):
        shared = (left[start : start + 2_000] @ right.T).tocoo()
        union = sizes[start + shared.row] + held_sizes[shared.col] - shared.data
        near = set((start + shared.row[shared.data >= NEAR * union]).tolist())
        kept += [row for number, row in enumerate(rows[start : start + 2_000], start=start) if number not in near]
    return kept


def _grams(rows: Sequence[Row], analysis: Analysis) -> csr_matrix:
    found = risk.features([row.text for row in rows], analysis)
    found.data = np.ones_like(found.data)
    return found


def _loss(model: risk.RiskModel, rows: Sequence[Row]) -> float | None:
    if not rows:
        return None
    return risk.log_loss(model, [row.text for row in rows], [row.label for row in rows])


def _store(
    model: risk.RiskModel,
    *,
    kept: Sequence[Row],
    unlabelled: Sequence[Row],
    checked: Check,
    at: datetime | None,
) -> RiskModel:
    data = risk.dumps(model)
    digest = hashlib.sha256(data).hexdigest()
    store_artifact(data, digest)
    positives = sum(row.label for row in kept)
    base_rate = float(model.score(row.text for row in unlabelled).mean()) if unlabelled else 0.0
    for _attempt in range(5):
        newest = RiskModel.objects.aggregate(newest=Max("version"))["newest"] or 0
        try:
            with transaction.atomic():
                return RiskModel.objects.create(
                    version=newest + 1,
                    digest=digest,
                    analysis=model.analysis,
                    fitted=at or timezone.now(),
                    positives=positives,
                    negatives=len(kept) - positives,
                    unlabelled=len(unlabelled),
                    base_rate=base_rate,
                    held_out=checked.count,
                    held_out_loss=checked.candidate,
                    baseline_loss=checked.serving,
                    refusal=checked.refusal,
                )
        except IntegrityError:
            continue
    raise RuntimeError("Five other refits took the version number; is more than one refit running?")
