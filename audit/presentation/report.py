"""The workbench: a report, its queries with their forecasts and decisions, and what Run would do."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from django.contrib.auth.models import User
from django.contrib.humanize.templatetags.humanize import intcomma, intword
from django.db.models import Count, Q
from django.utils.translation import gettext as _
from django.utils.translation import pgettext

from audit.figures import Share, share_of
from audit.intake import equal_known_toxic
from audit.marks import Mark
from audit.models import (
    Complaint,
    Decision,
    DecisionKind,
    Exploration,
    Item,
    ItemState,
    ItemText,
    Judgment,
    PolicyVersion,
    Proposer,
    Report,
    ReportStatus,
    SuggesterName,
    Suggestion,
    SuggestionBatch,
    SuggestionsState,
)
from audit.models.work import Forecast
from audit.services.queries import place_in
from extraction.models import Adapter

REASONS = 8


def origin_of(suggestion: Suggestion) -> str:
    """Who proposed it, quietly: `search`, an adapter of a language model by its name, or both."""
    adapter = suggestion.batch.adapter
    if adapter is None or suggestion.proposer == Proposer.SEARCH:
        return _("search")
    if suggestion.proposer == Proposer.MODEL:
        return _("model %(name)s") % {"name": adapter.name}
    return _("search and model %(name)s") % {"name": adapter.name}


def suggested_by(batch: SuggestionBatch) -> str:
    """Whose suggestions a batch holds, with the version of what scored them."""
    risk = batch.suggester_version.partition("+")[0]
    if batch.adapter is None:
        return _("search %(version)s") % {"version": risk}
    if SuggesterName.SEARCH in batch.suggester:
        return _("search %(version)s and model %(name)s") % {"version": risk, "name": batch.adapter.name}
    return _("model %(name)s, scored by search %(version)s") % {"version": risk, "name": batch.adapter.name}


def about_model(adapter: Adapter) -> str:
    """What the model is behind the queries of an adapter, in one sentence that promises nothing."""
    base = adapter.base
    names = {"adapter": adapter.name, "base": base.name, "count": _rounded(base.parameters)}
    if base.reference:
        sentence = _(
            "The model %(adapter)s is %(base)s with %(count)s parameters, tuned on this site's decisions: it points at "
            "phrases of the report and does not understand them."
        )
    else:
        sentence = _(
            "The model %(adapter)s has %(count)s parameters and learned from this site's texts and decisions alone: it "
            "points at phrases of the report and does not understand them."
        )
    return sentence % names


def _rounded(count: int) -> str:
    """A large number in words of the page's language, two digits of it: 410,000, 7.6 billion."""
    rounded = int(float(f"{count:.2g}"))
    return str(intword(rounded) if rounded >= 1_000_000 else intcomma(rounded))


@dataclass(frozen=True)
class QueryRow:
    """A query of a report as its row says it: a suggestion with its standing decision, or a query of the auditor's own.

    `state` is pending, accepted, edited, rejected or own; the figures are those that the decision was made on.
    """

    report: Report
    suggestion: Suggestion | None
    decision: Decision | None
    exploration: Exploration | None = None

    @property
    def dom_id(self) -> str:
        if self.suggestion is not None:
            return f"suggestion-{self.suggestion.public_id}"
        return f"decision-{self.decision.public_id}" if self.decision else ""

    @property
    def state(self) -> str:
        return self.decision.kind if self.decision else "pending"

    @property
    def is_pending(self) -> bool:
        return self.decision is None

    @property
    def text(self) -> str:
        """What would be searched: the edited phrase where there is one."""
        if self.decision is not None and self.decision.kind in {DecisionKind.EDITED, DecisionKind.OWN}:
            return self.decision.text
        return self.suggestion.text if self.suggestion else ""

    @property
    def was(self) -> str:
        """The suggested phrase, where it was edited."""
        return self.suggestion.text if self.suggestion and self.state == DecisionKind.EDITED else ""

    @property
    def origin(self) -> str:
        return origin_of(self.suggestion) if self.suggestion else ""

    @property
    def label(self) -> str:
        return str(self.suggestion.rank) if self.suggestion else pgettext("in place of a rank", "own")

    @property
    def mode(self) -> str:
        query = self.decision.query if self.decision and self.decision.query else None
        query = query or (self.suggestion.query if self.suggestion else None)
        return query.mode if query else ""

    @property
    def figures(self) -> Forecast | None:
        return self.decision or self.suggestion

    @property
    def share(self) -> Share | None:
        figures = self.figures
        return share_of(figures.past_toxic, figures.past_judged) if figures else None

    @property
    def has_run(self) -> bool:
        return self.exploration is not None

    @property
    def is_to_run(self) -> bool:
        return self.decision is not None and self.decision.query_id is not None and not self.has_run

    def mark(self) -> Mark | None:
        """Where the phrase stands in the reported text."""
        source = self.decision if self.decision and self.decision.span_start is not None else self.suggestion
        place = (source.span_start, source.span_end) if source else (None, None)
        if place[0] is None or place[1] is None:
            place = place_in(self.report.item_text.text, self.text) or (None, None)
        if place[0] is None or place[1] is None:
            return None
        attributes = {"data-state": self.state, "data-query": self.label, "data-for": self.dom_id}
        return Mark(place[0], place[1], attributes)


@dataclass(frozen=True)
class Tray:
    """What Run would do."""

    suggested: int
    own: int
    matches: int
    is_about: bool

    @property
    def count(self) -> int:
        return self.suggested + self.own


class Workbench:
    """Everything the report page shows to `user`. Each part is read once, when it is first asked for."""

    def __init__(self, report: Report, user: User) -> None:
        self.report = report
        self.user = user
        self.is_mine = report.is_held_by(user.pk) or (
            report.claimed_by_id == user.pk and report.status in {ReportStatus.CLAIMED, ReportStatus.EXPLORING}
        )

    @property
    def is_to_judge(self) -> bool:
        return self.is_mine and self.report.status == ReportStatus.CLAIMED

    @property
    def is_exploring(self) -> bool:
        """Queries may be decided: the text was confirmed and this user holds the report."""
        return self.is_mine and self.report.status == ReportStatus.EXPLORING

    @property
    def hides_suggestions(self) -> bool:
        """The arm `own first`: suggestions wait until the auditor asks for them."""
        return self.is_exploring and not self.report.shows_suggestions

    @property
    def is_waiting_for_suggestions(self) -> bool:
        return self.report.suggestions_state == SuggestionsState.PENDING and self.report.status != ReportStatus.CLOSED

    @cached_property
    def rows(self) -> list[QueryRow]:
        """Own queries, then the suggestions in their order, then earlier suggestions that were decided."""
        standing = list(
            self.report.decisions.standing()
            .select_related("query", "user", "suggestion__query", "suggestion__batch__adapter__base")
            .order_by("id")
        )
        ran = self._explorations_of(standing)
        suggestions = list(Suggestion.objects.of_batch(self.report.batch_id).select_related("batch__adapter__base"))
        if not self.report.shows_suggestions:
            suggestions = []
        decided = {decision.suggestion_id: decision for decision in standing if decision.suggestion_id}
        rows = [self._row(None, one, ran) for one in standing if one.kind == DecisionKind.OWN]
        rows += [self._row(one, decided.pop(one.pk, None), ran) for one in suggestions]
        rows += [self._row(decision.suggestion, decision, ran) for decision in decided.values()]
        return rows

    def _row(self, suggestion: Suggestion | None, decision: Decision | None, ran: dict[int, Exploration]) -> QueryRow:
        return QueryRow(self.report, suggestion, decision, ran.get(decision.pk) if decision else None)

    def _explorations_of(self, decisions: Sequence[Decision]) -> dict[int, Exploration]:
        through = Decision.exploration_queries.through.objects.filter(decision__in=[one.pk for one in decisions])
        pairs = through.select_related("explorationquery__exploration").order_by("pk")
        return {pair.decision_id: pair.explorationquery.exploration for pair in pairs}

    def row_of(self, *, suggestion: Suggestion | None = None, decision: Decision | None = None) -> QueryRow | None:
        """The row of a suggestion or of an own decision; None where it is not on the page any more."""
        for row in self.rows:
            if suggestion is not None and row.suggestion == suggestion:
                return row
            if decision is not None and row.decision == decision:
                return row
        return None

    @property
    def pending(self) -> list[QueryRow]:
        return [row for row in self.rows if row.is_pending]

    @property
    def decided_count(self) -> int:
        return len(self.rows) - len(self.pending)

    @property
    def first_pending_id(self) -> str:
        return self.pending[0].dom_id if self.pending else ""

    @property
    def suggested_by(self) -> str:
        return suggested_by(self.report.batch) if self.report.batch and self.report.shows_suggestions else ""

    @property
    def about_models(self) -> list[str]:
        """One sentence for each model that proposed a query on the page."""
        proposed = [row.suggestion for row in self.rows if row.suggestion]
        by_model = [one.batch.adapter for one in proposed if one.proposer != Proposer.SEARCH and one.batch.adapter]
        return [about_model(adapter) for adapter in dict.fromkeys(by_model)]

    @property
    def marks(self) -> list[Mark]:
        """What was taken wins over what is pending, that over what was rejected, where phrases overlap."""
        order = {"own": 0, "accepted": 0, "edited": 0, "pending": 1, "rejected": 2}
        found = (row.mark() for row in sorted(self.rows, key=lambda row: order[row.state]))
        return [mark for mark in found if mark is not None]

    @property
    def tray(self) -> Tray:
        to_run = [row for row in self.rows if row.is_to_run]
        human = sum(row.suggestion is None for row in to_run)
        figures = [row.decision for row in to_run if row.decision]
        return Tray(
            suggested=len(to_run) - human,
            own=human,
            matches=sum(one.matches or 0 for one in figures),
            is_about=any(one.is_about or one.matches is None for one in figures),
        )

    @cached_property
    def known_toxic(self) -> ItemText | None:
        """The text of another item that equals the reported one (normalised) and was judged toxic."""
        return equal_known_toxic(self.report.item_text)

    @property
    def explorations(self) -> list[Exploration]:
        """The explorations that ran queries of this report, newest first."""
        found = {row.exploration.pk: row.exploration for row in self.rows if row.exploration}
        return [found[pk] for pk in sorted(found, reverse=True)]

    @property
    def last_undoable(self) -> Decision | None:
        """The user's newest decision that can still be taken back."""
        mine = [
            row.decision
            for row in self.rows
            if row.decision and row.decision.user_id == self.user.pk and not row.has_run
        ]
        return max(mine, key=lambda decision: decision.pk, default=None) if self.is_exploring else None

    @cached_property
    def judgment(self) -> Judgment | None:
        """The standing verdict on the reported text that was made on this report."""
        # Not `.order_by("-id").first()`: SQLite would walk the whole table backwards by its primary key.
        standing = self.report.judgments.standing().select_related("user", "policy_version__policy").order_by()
        return max(standing, key=lambda judgment: judgment.pk, default=None)

    @cached_property
    def policy_version(self) -> PolicyVersion | None:
        return self.report.policy.versions.order_by("-number").first()

    @cached_property
    def reasons(self) -> list[tuple[str, int]]:
        """What the reporters said and how many said so, most said first."""
        counted = Complaint.objects.filter(report=self.report).exclude(reason="").values_list("reason")
        return list(counted.annotate(count=Count("pk")).order_by("-count", "reason")[:REASONS])

    @cached_property
    def author(self) -> dict[str, int]:
        """How many items the author has here, and how many were removed."""
        item = self.report.item
        if not item.author_key:
            return {}
        items = Item.objects.filter(platform=item.platform, author_key=item.author_key)
        return items.aggregate(items=Count("pk"), removed=Count("pk", filter=Q(state=ItemState.REMOVED)))
