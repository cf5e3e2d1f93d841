"""What follows from an erasure: builds of datasets that hold the text are withdrawn, their files deleted.

A build's row stays with its counts, its card and its digest, and runs that learned from it stay what they are. What
was fetched to other machines for a run lies there in the run's own folder and goes with it.
"""

import logging
from collections.abc import Set as AbstractSet

from django.core.files.storage import default_storage
from django.db.models import Max, Q, QuerySet
from django.utils import timezone

from audit.intake.store import text_digest
from audit.models import ItemText, JobState
from audit.queueing import enqueue
from audit.services.erasing import erasures
from extraction.artifacts import DamagedArtifact, artifact_name
from training.leaks import learned_texts
from training.models import Dataset

logger = logging.getLogger(__name__)


def search_what_is_due() -> None:
    """Once a minute: queue the search where a text was erased since a build was searched last."""
    if _due().exists():
        enqueue("data", "training.jobs.withdraw_job", job_id="withdraw-erased")


def withdraw() -> int:
    """Search every build that is due, and withdraw those that hold an erased text; how many were withdrawn.

    Doing it twice does no harm, and a job that died between the row and the file is made up by the next.
    """
    erased = frozenset(ItemText.objects.filter(text="").values_list("text_hash", flat=True))
    withdrawn = sum(_settle(dataset, erased) for dataset in _due())
    for digest in Dataset.objects.exclude(withdrawn=None).values_list("digest", flat=True).distinct():
        default_storage.delete(artifact_name(digest))
    return withdrawn


def _due() -> QuerySet[Dataset]:
    """Builds with a file that were not searched since the last erasure."""
    last = erasures().aggregate(at=Max("closed"))["at"]
    if last is None:
        return Dataset.objects.none()
    stored = Dataset.objects.filter(state=JobState.DONE, withdrawn=None).exclude(digest="")
    return stored.filter(Q(searched=None) | Q(searched__lt=last)).order_by("pk")


def _settle(dataset: Dataset, erased: AbstractSet[str]) -> bool:
    """Equal builds have one file, so each of them is searched."""
    now = timezone.now()
    holds = _holds(dataset, erased)
    Dataset.objects.filter(pk=dataset.pk).update(searched=now, withdrawn=now if holds else None)
    return holds


def _holds(dataset: Dataset, erased: AbstractSet[str]) -> bool:
    try:
        return any(text_digest(text) in erased for text in learned_texts(dataset))
    except DamagedArtifact:
        logger.warning("The file of %s is not in the storage: it cannot be searched for erased texts.", dataset)
        return False
