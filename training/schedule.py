"""What learning does by itself: retrain on a weekday or after so many judgments, and end old checkpoints."""

import logging
from datetime import date, datetime, timedelta

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from audit.models import Judgment
from audit.services.errors import ServiceError
from extraction.artifacts import delete_place
from extraction.models import AdapterRole, BaseModel
from extraction.registry import adapter_in
from training.estimates import UNDER_WAY
from training.models import EvaluationSet, LearningSettings, Run
from training.services import launch

logger = logging.getLogger(__name__)

WEEK = 7


@transaction.atomic
def launch_if_due(*, now: datetime | None = None) -> list[Run]:
    """Launch the scheduled recipe where it is due and nothing is under way; at most once a day.

    What a missed tick, a machine that was off or a run under way left out is made up.
    """
    now = timezone.localtime(now)
    LearningSettings.load()
    row = LearningSettings.objects.select_for_update().get(pk=1)  # of two ticks one launches
    if not _is_due(row, now) or Run.objects.filter(state__in=UNDER_WAY).exists():
        return []
    LearningSettings.objects.filter(pk=row.pk).update(scheduled_on=now.date())
    base = _base()
    if base is None:
        logger.warning("The scheduled retraining has no base model: build one on the page Training.")
        return []
    try:
        with transaction.atomic():
            return launch(
                recipe=row.recipe,
                base=base,
                evaluation_set=EvaluationSet.objects.first(),
                gate_decides=row.gate_decides and EvaluationSet.objects.exists(),
            )
    except ServiceError as error:
        logger.warning("The scheduled retraining was not launched: %s", error)
        return []


def _is_due(row: LearningSettings, now: datetime) -> bool:
    if not row.recipe or row.scheduled_on == now.date():
        return False
    return _is_weekday_due(row, now) or _are_judgments_due(row)


def _is_weekday_due(row: LearningSettings, now: datetime) -> bool:
    """From the nightly hour of the weekday on, until it was done. A new schedule begins with the next such day."""
    if row.every is None or row.scheduled_on is None:
        return False
    return row.scheduled_on < last_weekday(row.every, now)


def last_weekday(weekday: int, now: datetime) -> date:
    """The newest day of that weekday whose nightly hour has come.

    >>> last_weekday(6, datetime(2026, 3, 10, 9))
    datetime.date(2026, 3, 8)
    """
    begun = now - timedelta(hours=settings.NIGHTLY_HOUR)
    return (begun - timedelta(days=(begun.weekday() - weekday) % WEEK)).date()


def _are_judgments_due(row: LearningSettings) -> bool:
    """Whether so many verdicts are newer than the log that the newest run learned from."""
    if not row.after_judgments:
        return False
    newest = Judgment.objects.exclude(verdict="").order_by("-pk").values_list("at", flat=True)
    oldest = list(newest[row.after_judgments - 1 : row.after_judgments])
    until = newest_log()
    return bool(oldest) and (until is None or oldest[0] > until)


def newest_log() -> datetime | None:
    """Up to when the newest run has read the log; None before the first."""
    return Run.objects.order_by("-pk").values_list("dataset__until", flat=True).first()


def new_judgments() -> int:
    """Verdicts that no run has learned from."""
    verdicts = Judgment.objects.exclude(verdict="")
    until = newest_log()
    return verdicts.count() if until is None else verdicts.filter(at__gt=until).count()


def end_checkpoints(*, now: datetime | None = None) -> int:
    """Delete the stored checkpoints of runs that were over so many days ago; returns of how many.

    Adapters, base models and datasets stay. Such a run can still be resumed, from its beginning.
    """
    over = (now or timezone.now()) - timedelta(days=LearningSettings.load().keep_checkpoints)
    ended = Run.objects.filter(finished__lt=over).exclude(checkpoint="").exclude(state__in=UNDER_WAY)
    for run in ended:
        if Run.objects.filter(pk=run.pk, finished__lt=over).update(checkpoint="", checkpoint_step=0):
            delete_place(f"checkpoints/{run.pk}")
    return len(ended)


def _base() -> BaseModel | None:
    """The base of who serves, else the newest."""
    serving = adapter_in(AdapterRole.SERVING)
    return serving.base if serving is not None else BaseModel.objects.first()
