"""Datasets from the logs (SPEC section 5): read, build, write as JSONL, with a card.

`build` reads the log as it stood at `options.until` (`log.py`), keeps the pairs in a file beside the output, runs the
pure builder of the kind over them (`builders.py`, `policy.py`) and writes the rows. The same log and options give the
same bytes; for D_pol the adapter and the index must be the same too. Labelled corpora call the pure builders directly.
"""

import hashlib
import json
import tempfile
from collections.abc import Collection, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from django.utils import timezone
from django.utils.translation import gettext as _

from audit.logs.reading import aside, snapshot
from audit.suggesting import current_risks
from extraction.models import Adapter
from extraction.prompts import get_prompt
from extraction.registry import serving_risk
from extraction.search import get_engine
from extraction.text import MatchMode, get_analysis
from training.datasets.builders import (
    Row,
    Scored,
    build_added,
    build_d_cat,
    build_d_comp,
    build_d_pol,
    build_ranked,
    build_ranked_pol,
    eligible,
    grouped,
    pair_row,
)
from training.datasets.card import GroupFigures, PairFigures, RowFigures
from training.datasets.log import Log, Progress, ticking
from training.datasets.options import Mix, Options, OptionsError, Reward
from training.datasets.pairs import DropReason, Drops, Evidence
from training.datasets.phrases import Phrases
from training.datasets.policy import (
    Proposals,
    ReportedText,
    Risks,
    Sampler,
    Search,
    draw,
    score_by_precision,
    score_by_risk,
)
from training.datasets.spool import Spool
from training.models import DatasetKind, EvaluationSet

PREFERENCES = {DatasetKind.COMP, DatasetKind.COMP2, DatasetKind.LIST}


class NothingToBuild(Exception):
    """The log gives no row. The sentence says why, and what to do."""


@dataclass(frozen=True)
class Preview:
    """What a build would give. `rows_out` None: only the adapter can tell (D_pol)."""

    rows_in: int
    rows_out: int | None
    dropped: dict[str, int]
    card: dict[str, Any]


@dataclass(frozen=True)
class Built:
    """A build on disk. rows_in: decisions read (for D_pol reports); dropped: of them, and of groups, by `DropReason`.

    `digest` is the SHA-256 of the file.
    """

    rows_in: int
    rows_out: int
    dropped: dict[str, int]
    card: dict[str, Any]
    digest: str
    path: Path


def build(
    kind: DatasetKind,
    options: Options,
    *,
    excluded: EvaluationSet | None = None,
    out: Path,
    adapter: Adapter | None = None,
    proposer: Sampler | None = None,
    search: Search | None = None,
    progress: Progress | None = None,
) -> Built:
    """Build a dataset into the file `out`. An adapter makes a ranked list one of its own candidates, as in D_pol.

    `progress` is called in a thread of its own; what it raises ends the build. Raises NothingToBuild (and leaves no
    file), OptionsError; for D_pol SearchError.
    """
    with _aside(progress) as tell, tempfile.TemporaryDirectory(dir=out.parent, prefix=".dataset-") as work:
        job = _job(kind, options, excluded, adapter, tell)
        rows = _drawn_rows(job, proposer, search) if job.is_drawn else _logged_rows(job, Path(work))
        beside = Path(work) / "rows"
        digest = _write(job.row_figures.passing(rows), beside, job.progress)
        if not job.row_figures.rows:
            raise NothingToBuild(_why_nothing(job))
        beside.replace(out)
    return Built(job.rows_in, job.row_figures.rows, job.dropped(), job.card(), digest, out)


def preview(
    kind: DatasetKind,
    options: Options,
    *,
    excluded: EvaluationSet | None = None,
    adapter: Adapter | None = None,
    progress: Progress | None = None,
) -> Preview:
    """The counts and the card of the build that these settings would give now. Writes nothing that stays."""
    with _aside(progress) as tell, tempfile.TemporaryDirectory(prefix="qx-dataset-") as work:
        job = _job(kind, options, excluded, adapter, tell)
        if job.is_drawn:
            job.read_reports()
            return Preview(job.rows_in, None, job.dropped(), job.card())
        for _row in job.row_figures.passing(_logged_rows(job, Path(work))):
            pass
    return Preview(job.rows_in, job.row_figures.rows, job.dropped(), job.card())


def read_rows(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a built file, in order."""
    with path.open(encoding="utf-8") as lines:
        yield from map(json.loads, lines)


@dataclass
class _Job:
    """One build under way: what was asked, and what was counted so far."""

    kind: DatasetKind
    options: Options
    until: datetime
    excluded: EvaluationSet | None
    adapter: Adapter | None
    progress: Progress
    rows_in: int = 0
    drops: Drops = field(default_factory=Drops)
    group_figures: GroupFigures = field(default_factory=GroupFigures)
    row_figures: RowFigures = field(default_factory=RowFigures)

    def __post_init__(self) -> None:
        self.pair_figures = PairFigures(self.options)

    @property
    def is_drawn(self) -> bool:
        """Whether an adapter proposes the candidates."""
        return self.kind == DatasetKind.POL or (self.kind == DatasetKind.LIST and self.adapter is not None)

    def open_log(self) -> Log:
        return Log(self.until, get_analysis(self.options.analysis), self.excluded, self.progress)

    def read_reports(self) -> list[ReportedText]:
        with snapshot():
            reported = self.open_log().reported_texts(self.drops, self.options.pol_reports)
        self.rows_in = len(reported) + self.drops.total()
        return reported

    def dropped(self) -> dict[str, int]:
        return {reason.value: self.drops[reason] for reason in DropReason if self.drops[reason]}

    def card(self) -> dict[str, Any]:
        """Everything that can be said of the build without its rows; plain values."""
        card: dict[str, Any] = {
            "kind": self.kind.value,
            "options": self.options.as_json(),
            "analysis": get_analysis(self.options.analysis).name,
            "rows_in": self.rows_in,
            "rows_out": self.row_figures.rows,
            "dropped": self.dropped(),
            **self.row_figures.as_json(),
        }
        if self.excluded is not None:
            card["excluded"] = self.excluded.name
            card["is_before_cutoff"] = self.until <= self.excluded.cutoff
        if self.is_drawn:
            card["adapter"] = self.adapter.name if self.adapter is not None else ""
        else:
            card |= self.pair_figures.as_json()
        if self.group_figures.groups:
            card |= self.group_figures.as_json()
        return card


def _aside(progress: Progress | None) -> AbstractContextManager[Progress]:
    """`progress` in a thread of its own; without one, nothing is told."""
    return nullcontext(lambda _step, _count: None) if progress is None else aside(progress)


def _job(
    kind: DatasetKind,
    options: Options,
    excluded: EvaluationSet | None,
    adapter: Adapter | None,
    progress: Progress,
) -> _Job:
    """With what the kind and the moment settle: D_comp2 is D_comp at a threshold of 0."""
    until = options.until or timezone.now()
    threshold = 0.0 if kind == DatasetKind.COMP2 else options.threshold
    settled = replace(options, until=until, threshold=threshold)
    return _Job(kind, settled, until, excluded, adapter, progress)


# --- rows from the log ----------------------------------------------------------------------------------------------


def _logged_rows(job: _Job, work: Path) -> Iterator[Row]:
    with Spool(work / "pairs") as pairs:
        with snapshot():
            logged = job.open_log().pairs(job.drops)
            chosen = eligible(logged, job.options, job.drops, for_preferences=job.kind in PREFERENCES)
            pairs.extend(job.pair_figures.passing(chosen))
        job.rows_in = len(pairs) + job.drops.total()
        yield from _rows_of(pairs, job)


def _rows_of(pairs: Spool, job: _Job) -> Iterator[Row]:
    prompt = get_prompt(job.options.prompt_version)
    d: Iterator[Row] = (pair_row(pair, prompt) for pair in pairs)
    if job.kind == DatasetKind.SFT:
        return d
    clustered = grouped(pairs, job.options, tell=partial(job.progress, "groups"))
    groups = job.group_figures.passing(clustered)
    if job.kind == DatasetKind.UNION:
        return chain(d, build_added(groups, job.options, job.drops))
    if job.kind == DatasetKind.CAT:
        return build_d_cat(groups, job.options, job.drops)
    if job.kind == DatasetKind.LIST:
        return build_ranked(groups, job.options, job.drops)
    return build_d_comp(groups, job.options, job.drops)


# --- rows from an adapter's own candidates --------------------------------------------------------------------------


def _drawn_rows(job: _Job, proposer: Sampler | None, search: Search | None) -> Iterator[Row]:
    if proposer is None or job.adapter is None:
        raise OptionsError(_("Candidates need an adapter and a model that draws them."))
    risks = _current_risks() if job.options.reward is Reward.RISK else None
    reported = job.read_reports()
    proposals = ticking(draw(reported, proposer, job.adapter.name, job.options), "drawing", job.progress)
    if risks is not None:
        scored = score_by_risk(proposals, search or get_engine().msearch, risks)
    else:
        scored = _scored_by_precision(list(proposals), job)
    builder = build_d_pol if job.kind == DatasetKind.POL else build_ranked_pol
    yield from builder(scored, job.options, job.drops)


def _current_risks() -> Risks:
    serving = serving_risk()
    if serving is None:
        raise NothingToBuild(_("No risk model serves that could score candidates. Refit it, or score by precision."))
    version, model = serving
    return lambda items: current_risks(set(items), version, model)


def _scored_by_precision(proposals: Collection[Proposals], job: _Job) -> Iterator[Scored]:
    """One pass over the judged texts for all candidates together."""
    phrases = Phrases(get_analysis(job.options.analysis))
    giving = [
        (one.reported.item, number)
        for one in proposals
        for query in one.queries
        if (number := phrases.add(query, MatchMode.PHRASE)) is not None
    ]
    with snapshot():
        findings = job.open_log().evidence_of(phrases, giving)

    def evidence_of(query: str) -> Evidence:
        number = phrases.number_of(query, MatchMode.PHRASE)
        return Evidence() if number is None else findings.of(number)

    return score_by_precision(proposals, evidence_of, job.options)


# --- the file -------------------------------------------------------------------------------------------------------


def _write(rows: Iterable[Row], path: Path, progress: Progress) -> str:
    """Write the rows as JSON lines and return the SHA-256 of the file."""
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for row in ticking(rows, "rows", progress):
            line = json.dumps(row, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
            digest.update(line)
            file.write(line)
    return digest.hexdigest()


def _why_nothing(job: _Job) -> str:
    """A sentence for the admin: what was read, why nothing came out, what to do."""
    until = {"until": f"{job.until:%Y-%m-%d %H:%M}"}
    if not job.rows_in and job.is_drawn:
        return _("Before %(until)s no report was judged. Judge reported texts first.") % until
    if not job.rows_in:
        return _("Before %(until)s nobody decided on a query of a report. Explore reports first.") % until
    reasons = ", ".join(f"{reason.label} {count:,}" for reason, count in job.drops.most_common())
    if job.drops[DropReason.ONE_SIDED]:
        advice = _("Judge more of what the queries found, or ask for fewer judged matches.")
    elif job.is_drawn:
        advice = _("Draw more samples at a higher temperature, or ask for a smaller gap.")
    else:
        advice = _("Confirm reports and decide on queries that stand in their texts, or loosen the settings.")
    return _("%(count)s decisions or reports give no row (%(reasons)s). %(advice)s") % {
        "count": f"{job.rows_in:,}",
        "reasons": reasons,
        "advice": advice,
    }


__all__ = [
    "Built",
    "DropReason",
    "Mix",
    "NothingToBuild",
    "Options",
    "OptionsError",
    "Preview",
    "Reward",
    "build",
    "preview",
    "read_rows",
]
