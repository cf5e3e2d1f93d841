"""Datasets: drops in words, and some of the rows."""

import json
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any

from django.contrib.humanize.templatetags.humanize import intcomma
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, pgettext

from audit.models import JobState
from extraction.artifacts import DamagedArtifact, open_artifact
from training.datasets import DropReason
from training.models import Dataset

PREVIEWED = 20
BUILDING = (JobState.QUEUED, JobState.RUNNING)
_LABELS = {
    "pairs": gettext_lazy("Pairs"),
    "distinct_queries": gettext_lazy("Different queries"),
    "by_source": gettext_lazy("By source"),
    "by_kind": gettext_lazy("By decision"),
    "mapped": gettext_lazy("Placed by their words"),
    "groups": gettext_lazy("Groups"),
    "mean_pairs": gettext_lazy("Pairs a group"),
    "mean_content_length": gettext_lazy("Characters a content"),
}


@dataclass(frozen=True)
class DatasetRow:
    """A dataset with its drops in words, what its card says, and some of its rows."""

    dataset: Dataset

    @property
    def is_pending(self) -> bool:
        return self.dataset.state in BUILDING

    @property
    def is_counted(self) -> bool:
        return self.dataset.state in (JobState.DONE, JobState.DRAFT)

    @property
    def is_drawn(self) -> bool:
        """Counted, but only the adapter can tell how many samples it gives."""
        return self.dataset.state == JobState.DRAFT and self.dataset.adapter_id is not None

    @property
    def drops(self) -> list[tuple[str, int]]:
        """(reason, how many), the most frequent first."""
        counts = sorted(self.dataset.dropped.items(), key=lambda drop: -drop[1])
        return [(_drop_words(reason), count) for reason, count in counts if count]

    @property
    def last_words(self) -> str:
        lines = self.dataset.error.strip().splitlines()
        return lines[-1] if lines else ""

    @property
    def card(self) -> list[tuple[str, str]]:
        """What a researcher asks first: how many different queries, from whom, how long."""
        card = self.dataset.card
        known = [(_LABELS[name], card[name]) for name in _LABELS if card.get(name) is not None]
        return [(str(label), _card_words(value)) for label, value in known]

    @cached_property
    def rows(self) -> list[dict[str, Any]]:
        """The previewed rows; none where the file is not in the storage any more."""
        if self.dataset.state != JobState.DONE or self.dataset.withdrawn or not self.dataset.preview:
            return []
        wanted = set(self.dataset.preview)
        try:
            with open_artifact(self.dataset.digest) as file:
                lines = islice(file, max(wanted) + 1)
                return [json.loads(line) for number, line in enumerate(lines) if number in wanted]
        except DamagedArtifact:
            return []


def _card_words(value: Any) -> str:
    """A number; or shares, each with its count: `human 75% (90), model 25% (30)`."""
    if not isinstance(value, dict):
        return intcomma(value)
    shares = [
        _("%(name)s %(percent).0f%% (%(count)s)")
        % {"name": name, "percent": 100 * part["share"], "count": intcomma(part["count"])}
        for name, part in value.items()
    ]
    return pgettext("between things of a list", ", ").join(shares)


def _drop_words(reason: str) -> str:
    return str(DropReason(reason).label) if reason in DropReason.values else reason


def preview_lines(rows: int) -> list[int]:
    """Numbers of the lines that the page shows: spread over the first 2,000, which are read quickly."""
    step = max(1, min(rows, 2_000) // PREVIEWED)
    return list(range(0, min(rows, 2_000), step))[:PREVIEWED]
