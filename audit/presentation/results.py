"""The page of an exploration: its queries with what they brought so far, and its results with their verdicts."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import NamedTuple

from django.conf import settings
from django.contrib.auth.models import User
from django.db.models import QuerySet
from django.utils.translation import gettext

from audit.figures import Share, share_of
from audit.marks import Mark
from audit.models import (
    Exploration,
    ExplorationQuery,
    Exposure,
    ItemState,
    Judgment,
    PolicyVersion,
    QueryRun,
    Report,
    ReportStatus,
    RunState,
    StandingVerdict,
    Verdict,
)
from audit.services.explorations import may_work
from extraction.text import MatchMode, get_analysis

TICKS = 52  # verdicts that one strip shows
LISTED = 200  # results of one query that a filtered page shows


class Shown(NamedTuple):
    """One exposure, as far as counting needs it."""

    run_id: int
    text_id: int
    position: int
    at: datetime


class Standing(NamedTuple):
    """A standing verdict, as far as a page needs it (model instances would cost more than the query)."""

    text_id: int
    verdict: str
    is_disputed: bool
    judgment_id: int
    at: datetime
    username: str
    first_name: str
    last_name: str

    @property
    def label(self) -> str:
        return str(Verdict(self.verdict).label) if self.verdict else ""

    @property
    def by(self) -> str:
        return f"{self.first_name} {self.last_name}".strip() or self.username


def standing_by_text(rows: QuerySet[StandingVerdict]) -> dict[int, Standing]:
    """item text id → a standing verdict on it; of several the last in the order of the rows."""
    person = ("judgment__user__username", "judgment__user__first_name", "judgment__user__last_name")
    fields = ("item_text_id", "verdict", "is_disputed", "judgment_id", "judgment__at", *person)
    return {values[0]: Standing(*values) for values in rows.values_list(*fields)}


@dataclass(frozen=True)
class Place:
    """Where a query found an item: the number of the query in this exploration, and the rank there."""

    query: ExplorationQuery
    rank: int


@dataclass
class ResultRow:
    """One item of the results, shown once, with every place it was found at and the verdict as it stands."""

    exposure: Exposure
    places: list[Place] = field(default_factory=list)
    own: Judgment | None = None
    standing: Standing | None = None

    @property
    def dom_id(self) -> str:
        return f"exposure-{self.exposure.position}"

    @property
    def verdict(self) -> str:
        """The verdict that the row shows: one's own, else that of whoever was faster since the page was opened."""
        if self.own is not None:
            return self.own.verdict
        return self.standing.verdict if self.standing and not self.was_judged_before else ""

    @property
    def was_judged_before(self) -> bool:
        """Judged before it was shown here: it is folded at the end and not asked again."""
        standing = self.standing
        return self.own is None and bool(standing and standing.verdict and standing.at < self.exposure.at)

    @property
    def by_other(self) -> bool:
        return self.own is None and bool(self.verdict)

    @property
    def is_todo(self) -> bool:
        return not self.verdict and not self.was_judged_before

    @property
    def is_disputed(self) -> bool:
        """Two people differ; said only after one's own verdict."""
        return self.own is not None and bool(self.standing and self.standing.is_disputed)

    @property
    def is_gone(self) -> bool:
        return self.exposure.item.state == ItemState.GONE

    @property
    def is_removed(self) -> bool:
        return self.exposure.item.state == ItemState.REMOVED

    @property
    def was_edited(self) -> bool:
        return self.exposure.item.text_id != self.exposure.item_text_id

    @property
    def path(self) -> str:
        """The row's address below that of its exploration: the first query that found it, and the rank there."""
        return f"{self.places[0].query.position}/{self.places[0].rank}/"

    @property
    def marks(self) -> list[Mark]:
        """Where the queries that found the item match its text, in code points of the raw text; longest first."""
        marks = []
        for place in self.places:
            query = place.query.query
            spans = get_analysis(query.analysis).find(self.exposure.item_text.text, query.key, MatchMode(query.mode))
            marks += [Mark(start, end) for start, end in spans]
        return sorted(marks, key=lambda mark: mark.start - mark.end)


@dataclass
class RailRow:
    """A query of the exploration, with its run and what was judged of its exposures."""

    query: ExplorationQuery
    run: QueryRun | None
    verdicts: list[str] = field(default_factory=list)

    @property
    def toxic(self) -> int:
        return self.verdicts.count(Verdict.TOXIC)

    @property
    def share(self) -> Share | None:
        return share_of(self.toxic, self.toxic + self.verdicts.count(Verdict.NORMAL))

    @property
    def ticks(self) -> list[tuple[str, str]]:
        """(verdict, place on the strip) of the newest verdicts, oldest first."""
        shown = self.verdicts[-TICKS:]
        return [(verdict, f"{100 * at / TICKS:.2f}%") for at, verdict in enumerate(shown)]


@dataclass(frozen=True)
class Progress:
    """What was judged of what was shown; items judged before are not counted in."""

    shown: int
    toxic: int
    normal: int
    cant_tell: int

    @property
    def judged(self) -> int:
        return self.toxic + self.normal + self.cant_tell

    @property
    def left(self) -> int:
        return self.shown - self.judged


class ExplorationPage:
    """Everything the page of an exploration shows to `user`: one opened page of results, or those of one query."""

    def __init__(self, exploration: Exploration, user: User, *, page: int = 0, query: int = 0) -> None:
        self.exploration = exploration
        self.user = user
        self.number = min(max(page, 1), max(exploration.pages_opened, 1)) if page else max(exploration.pages_opened, 1)
        self.query_number = query
        self.may_work = may_work(exploration, user)

    # --- the queries ---

    @cached_property
    def queries(self) -> list[ExplorationQuery]:
        return list(self.exploration.queries.select_related("query").order_by("position"))

    @cached_property
    def runs(self) -> dict[int, QueryRun]:
        """exploration query id → its run."""
        runs = QueryRun.objects.filter(exploration_query__exploration=self.exploration)
        return {run.exploration_query_id: run for run in runs}

    @property
    def is_pending(self) -> bool:
        return self.exploration.state in {RunState.QUEUED, RunState.RUNNING}

    @property
    def ended(self) -> int:
        return sum(query.state in {RunState.DONE, RunState.FAILED} for query in self.queries)

    @property
    def failed(self) -> list[ExplorationQuery]:
        return [query for query in self.queries if query.state == RunState.FAILED]

    @property
    def failures(self) -> list[str]:
        """Why queries failed, each reason once. Workers write it in English, it is read in the reader's language."""
        return [gettext(error) for error in dict.fromkeys(query.error for query in self.failed) if error]

    @cached_property
    def reports(self) -> list[Report]:
        """The reports whose decisions this exploration serves, in the order they came in."""
        served = Report.objects.filter(decisions__exploration_queries__exploration=self.exploration)
        return list(served.select_related("policy").distinct().order_by("pk"))

    @property
    def held_report(self) -> Report | None:
        """The report that Done closes: the first one that this user holds and explores."""
        for report in self.reports:
            if report.claimed_by_id == self.user.pk and report.status == ReportStatus.EXPLORING:
                return report
        return None

    @cached_property
    def found(self) -> int:
        """How many different items the runs found and kept."""
        return len({ref for run in self.runs.values() for ref, _risk in run.ranking})

    @cached_property
    def policy_version(self) -> PolicyVersion | None:
        """The wording that the results are judged under."""
        return self.reports[0].policy.versions.order_by("-number").first() if self.reports else None

    # --- what was shown and judged ---

    @cached_property
    def _exposed(self) -> list[Shown]:
        """Everything shown so far, in the order of the results."""
        exposed = Exposure.objects.filter(run__in=self._run_ids)
        fields = ("run_id", "item_text_id", "position", "at")
        return [Shown(*values) for values in exposed.order_by("position", "pk").values_list(*fields)]

    @property
    def _run_ids(self) -> list[int]:
        return [run.pk for run in self.runs.values()]

    @cached_property
    def _versions(self) -> list[int]:
        """The wording of each policy in question that judgments are made under now."""
        policies = {report.policy_id for report in self.reports}
        versions = PolicyVersion.objects.filter(policy__in=policies).order_by("policy", "number")
        return list(dict(versions.values_list("policy", "pk")).values())  # of each policy the last

    @cached_property
    def _verdicts(self) -> dict[int, Standing]:
        """item text id → its standing verdict under a policy of these reports."""
        texts = {shown.text_id for shown in self._exposed}
        return standing_by_text(StandingVerdict.objects.filter(item_text__in=texts, policy_version__in=self._versions))

    @cached_property
    def _judged_elsewhere(self) -> dict[int, Standing]:
        """The same for verdicts under other policies: such texts are not asked again either."""
        texts = {shown.text_id for shown in self._exposed} - set(self._verdicts)
        return standing_by_text(StandingVerdict.objects.filter(item_text__in=texts).exclude(verdict=""))

    @cached_property
    def rail(self) -> list[RailRow]:
        by_run: dict[int, list[Standing]] = defaultdict(list)
        for shown in self._exposed:
            verdict = self._verdicts.get(shown.text_id)
            if verdict is not None and verdict.verdict:
                by_run[shown.run_id].append(verdict)
        rows = []
        for query in self.queries:
            run = self.runs.get(query.pk)
            judged = sorted(by_run[run.pk], key=lambda one: one.judgment_id) if run else []
            rows.append(RailRow(query, run, [one.verdict for one in judged]))
        return rows

    @cached_property
    def progress(self) -> Progress:
        opened = {shown.text_id: shown.at for shown in reversed(self._exposed)}
        found = {text: self._verdicts.get(text) or self._judged_elsewhere.get(text) for text in opened}
        before = {text for text, one in found.items() if one and one.verdict and one.at < opened[text]}
        verdicts = [one.verdict for text, one in found.items() if one and text not in before]
        return Progress(
            shown=len(opened) - len(before),
            toxic=verdicts.count(Verdict.TOXIC),
            normal=verdicts.count(Verdict.NORMAL),
            cant_tell=verdicts.count(Verdict.CANT_TELL),
        )

    # --- the results ---

    @property
    def query(self) -> ExplorationQuery | None:
        return next((query for query in self.queries if query.position == self.query_number), None)

    @cached_property
    def rows(self) -> list[ResultRow]:
        """The results of the shown page, or of the chosen query on all opened pages."""
        exposures = Exposure.objects.filter(run__in=self._run_ids)
        if self.query is None:
            return self._rows(exposures.filter(page=self.number))
        run = self.runs.get(self.query.pk)
        positions = [shown.position for shown in self._exposed if run is not None and shown.run_id == run.pk]
        return self._rows(exposures.filter(position__in=positions[:LISTED]))

    def row_at(self, position: int) -> ResultRow | None:
        """The row of one position; None where nothing was shown there."""
        rows = self._rows(Exposure.objects.filter(run__in=self._run_ids, position=position))
        return rows[0] if rows else None

    def _rows(self, exposures: QuerySet[Exposure]) -> list[ResultRow]:
        queries = {run.pk: query for query in self.queries if (run := self.runs.get(query.pk))}
        rows: dict[int, ResultRow] = {}
        for exposure in exposures.select_related("item", "item_text").order_by("position", "pk"):
            row = rows.setdefault(exposure.position, ResultRow(exposure))
            row.places.append(Place(queries[exposure.run_id], exposure.rank))
        self._add_verdicts(list(rows.values()))
        for row in rows.values():
            row.places.sort(key=lambda place: place.query.position)
        return list(rows.values())

    def _add_verdicts(self, rows: Sequence[ResultRow]) -> None:
        texts = [row.exposure.item_text_id for row in rows]
        # By text alone: given the user or the policy too, SQLite would rather walk through all judgments of that one.
        standing = Judgment.objects.standing().filter(item_text__in=texts).order_by("pk")
        versions = set(self._versions)
        mine = {
            one.item_text_id: one
            for one in standing
            if one.user_id == self.user.pk and one.policy_version_id in versions
        }
        for row in rows:
            text = row.exposure.item_text_id
            row.standing = self._verdicts.get(text) or self._judged_elsewhere.get(text)
            judgment = mine.get(text)
            if judgment is not None and judgment.at >= row.exposure.at:
                row.own = judgment

    @property
    def to_judge(self) -> list[ResultRow]:
        return [row for row in self.rows if not row.was_judged_before]

    @property
    def judged_before(self) -> list[ResultRow]:
        return [row for row in self.rows if row.was_judged_before]

    @property
    def first_todo_id(self) -> str:
        return next((row.dom_id for row in self.rows if row.is_todo), "")

    @property
    def has_next(self) -> bool:
        """Whether a further page is open already, or can be: the last one was full."""
        if self.number < self.exploration.pages_opened:
            return True
        return self.shown_count > 0 and self.shown_count >= settings.PAGE_SIZE * self.exploration.pages_opened

    @property
    def shown_count(self) -> int:
        return len({shown.position for shown in self._exposed})

    @property
    def previous_number(self) -> int:
        return self.number - 1

    @property
    def next_number(self) -> int:
        return self.number + 1

    @property
    def next_is_open(self) -> bool:
        return self.number < self.exploration.pages_opened

    @cached_property
    def last_undoable(self) -> Judgment | None:
        """The user's newest verdict, if it was given on these results: what the toast offers to take back."""
        last = Judgment.objects.standing().filter(user=self.user).select_related("exposure").order_by("-pk").first()
        return last if last and last.exposure and last.exposure.run_id in self._run_ids and self.may_work else None
