"""The simulated auditor: works reports through with the verbs that the pages call, by a stated policy.

1. **The reported text** is judged by its label, wrongly for `Plan.error` of the items.
2. **Own queries**: the first two of what people would search with (`ground.py`), the same in every arm. No label of any
   other item is looked at for them.
3. **Suggestions**, in the order of the page: an experienced eye sees roughly what a phrase finds. Where half or more of
   its newest 50 matches are toxic it is accepted with probability .75, from 15 % on with .35, below that with .05; at
   most three are accepted. One in ten accepted ones is edited: the phrase takes in the next token of the text. Of the
   others four in five are rejected and one is left alone. This looks at labels, as an expert's knowledge does; it is
   the same eye in every arm with suggestions.
4. **Results** are read from the top, page by page, until the report's share of the day's reviews is used up. Each is
   judged by its label, wrongly for `Plan.error` of the items; an item judged wrongly is judged so by everybody.
"""

import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from django.contrib.auth.models import User

from audit.jobs import run_exploration
from audit.models import (
    Decision,
    DecisionKind,
    Exploration,
    Exposure,
    Item,
    Outcome,
    PoolItem,
    Report,
    StandingVerdict,
    Suggestion,
    Verdict,
)
from audit.services import (
    Invalid,
    add_own_query,
    claim,
    close,
    decide,
    explore,
    judge,
    judge_pool_item,
    judge_report,
    open_page,
)
from extraction.search import Order, SearchRequest, get_engine
from extraction.suggest import MASK
from extraction.text import MatchMode, get_analysis
from training.simulation.settings import chance, key_for
from training.simulation.tally import Tally

OWN = 2
MOST_ACCEPTED = 3
EYE = ((0.5, 0.75), (0.15, 0.35), (0.0, 0.05))
"""(toxic share of the newest matches from which on, probability of accepting)."""
EYE_SEES = 50
EDITS = 0.1
LEAVES = 0.2


class Workers:
    """The site's part of an exploration."""

    def run(self, exploration: Exploration, at: datetime) -> None:
        """Run a queued exploration to its end."""
        run_exploration(exploration.pk, at=at)

    @contextmanager
    def while_judging(self) -> Iterator[None]:
        """Entered while results are read and judged."""
        yield


@dataclass(frozen=True)
class Truth:
    """The labels by external id, and each report's own queries by the external id of its item, best first."""

    toxic: Mapping[str, bool]
    own: Mapping[str, Sequence[str]]


@dataclass
class Worked:
    """What came of one report. `found`: toxic by verdict and by label; `wrong`: toxic by verdict alone."""

    report: int
    is_confirmed: bool = False
    exploration: int | None = None
    reviewed: int = 0
    found: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)


class Auditor:
    """One person with a clock."""

    def __init__(
        self, user: User, truth: Truth, *, seed: int, error: float, tally: Tally, workers: Workers, now: datetime
    ) -> None:
        self.user = user
        self.now = now
        self._truth = truth
        self._seed = seed
        self._error = error
        self._tally = tally
        self._workers = workers

    # --- one report -------------------------------------------------------------------------------------------------

    def work(self, report: Report, allowance: int, *, explores: bool = True) -> Worked:
        """Claim, judge, decide, explore, judge at most `allowance` results, close."""
        worked = Worked(report.pk)
        name = report.item.external_id
        report = claim(report=report, user=self.user, key=self._key("claim", name), at=self.now)
        worked.is_confirmed = self._judge_report(report)
        if not worked.is_confirmed:
            self._tally.note_closed(report)
            return worked
        report.refresh_from_db()
        if explores:
            self._add_own(report)
            self._decide_all(report)
            if Decision.objects.to_run().filter(report=report).exists():
                self._explore(report, allowance, worked)
        self._takes(1, 5)
        key = self._key("close", name)
        report = close(report=report, user=self.user, outcome=Outcome.CONFIRMED, key=key, at=self.now)
        self._tally.note_closed(report)
        return worked

    def _judge_report(self, report: Report) -> bool:
        name = report.item.external_id
        verdict = self.verdict_on(name)
        judgment = judge_report(
            report=report,
            user=self.user,
            verdict=verdict,
            policy=report.policy,
            key=self._key("judge report", name),
            duration_ms=self._takes(8, 40, name),
            at=self.now,
        )
        self._tally.note_judgment(judgment, name, is_live=True)
        return verdict == Verdict.TOXIC

    def verdict_on(self, external_id: str) -> Verdict:
        """What this person says of an item, whenever asked."""
        is_wrong = chance(self._seed, "verdict", external_id) < self._error
        return Verdict.TOXIC if self._truth.toxic[external_id] != is_wrong else Verdict.NORMAL

    # --- queries ----------------------------------------------------------------------------------------------------

    def _add_own(self, report: Report) -> None:
        text, name = report.item_text.text, report.item.external_id
        rules = get_analysis(get_engine().analysis)
        for phrase in list(dict.fromkeys(self._truth.own.get(name, ())))[:OWN]:
            key = rules.key(phrase, MatchMode.PHRASE)
            places = rules.find(text, key, MatchMode.PHRASE) if key else []
            try:
                decision = add_own_query(
                    report=report,
                    user=self.user,
                    text=text[slice(*places[0])] if places else phrase,
                    mode=MatchMode.PHRASE,
                    span=places[0] if places else None,
                    key=self._key("own", name, phrase),
                    duration_ms=self._takes(6, 30, name, phrase),
                    at=self.now,
                )
            except Invalid:  # it is a query of this report already, or nothing that can be searched
                continue
            self._tally.note_decision(decision)

    def _decide_all(self, report: Report) -> None:
        accepted = 0
        for suggestion in Suggestion.objects.of_batch(report.batch_id):
            accepted += self._decide(report, suggestion, may_accept=accepted < MOST_ACCEPTED)

    def _decide(self, report: Report, suggestion: Suggestion, *, may_accept: bool) -> bool:
        """Accept, edit, reject or leave one suggestion; True where a query came of it."""
        about = (self._seed, "suggestion", report.item.external_id, suggestion.query.key)
        likes = may_accept and chance(*about, "eye") < self._liking(suggestion)
        if not likes and chance(*about, "left") < LEAVES:
            return False
        kind = DecisionKind.ACCEPTED if likes else DecisionKind.REJECTED
        longer = _longer(report.item_text.text, suggestion) if likes and chance(*about, "edit") < EDITS else ""
        if longer:
            try:
                self._record(suggestion, DecisionKind.EDITED, longer)
                return True
            except Invalid:  # the longer phrase is a query of this report already: take it as it is
                pass
        self._record(suggestion, kind, "")
        return likes

    def _record(self, suggestion: Suggestion, kind: DecisionKind, text: str) -> None:
        name = suggestion.report.item.external_id
        decision = decide(
            suggestion=suggestion,
            user=self.user,
            kind=kind,
            text=text,
            key=self._key("decide", name, suggestion.query.key, kind),
            duration_ms=self._takes(3, 15, name, suggestion.query.key),
            at=self.now,
        )
        self._tally.note_decision(decision)

    def _liking(self, suggestion: Suggestion) -> float:
        request = SearchRequest(suggestion.text, MatchMode(suggestion.query.mode), size=EYE_SEES, order=Order.RECENT)
        ids = [hit.id for hit in get_engine().search(request).hits if hit.id != suggestion.report.item_id]
        names = Item.objects.filter(pk__in=ids).values_list("external_id", flat=True)
        toxic = [self._truth.toxic[name] for name in names]
        share = sum(toxic) / len(toxic) if toxic else 0.0
        return next(probability for least, probability in EYE if share >= least)

    # --- results ----------------------------------------------------------------------------------------------------

    def _explore(self, report: Report, allowance: int, worked: Worked) -> None:
        name = report.item.external_id
        exploration = explore(reports=[report], user=self.user, key=self._key("explore", name), at=self.now)
        self._tally.note_exploration(exploration)
        self._workers.run(exploration, self.now)
        exploration.refresh_from_db()
        worked.exploration = exploration.pk
        with self._workers.while_judging():
            self._read_pages(exploration, name, allowance, worked)

    def _read_pages(self, exploration: Exploration, name: str, allowance: int, worked: Worked) -> None:
        number = 0
        while worked.reviewed < allowance:
            number += 1
            self._takes(2, 6, name, number)
            key = self._key("page", name, number)
            shown = open_page(exploration=exploration, user=self.user, number=number, key=key, at=self.now)
            self._tally.note_page(exploration, shown)
            if not self._judge_page(exploration, number, allowance, worked):
                return

    def _judge_page(self, exploration: Exploration, number: int, allowance: int, worked: Worked) -> bool:
        """Judge what nobody judged, from the top; False where there was nothing of that kind."""
        exposures = (
            Exposure.objects.filter(run__exploration_query__exploration=exploration, page=number)
            .select_related("item", "item_text__item", "run__exploration_query__exploration")
            .order_by("position", "rank", "run_id")
        )
        once = {exposure.position: exposure for exposure in reversed(exposures)}
        texts = [exposure.item_text_id for exposure in once.values()]
        standing = StandingVerdict.objects.filter(item_text__in=texts).exclude(verdict="")
        judged = set(standing.values_list("item_text_id", flat=True))
        fresh = [once[place] for place in sorted(once) if once[place].item_text_id not in judged]
        for exposure in fresh[: allowance - worked.reviewed]:
            self._judge(exposure, worked)
        return bool(fresh)

    def _judge(self, exposure: Exposure, worked: Worked) -> None:
        name = exposure.item.external_id
        judgment = judge(
            exposure=exposure,
            user=self.user,
            verdict=self.verdict_on(name),
            key=self._key("judge", name),
            duration_ms=self._takes(2, 9, name),
            at=self.now,
        )
        self._tally.note_judgment(judgment, name, is_live=True)
        worked.reviewed += 1
        if judgment.verdict == Verdict.TOXIC:
            (worked.found if self._truth.toxic[name] else worked.wrong).append(name)

    def judge_pool(self, items: Sequence[PoolItem]) -> None:
        """Judge what an evaluation needs judged: outside the day's reviews, and of items that are not live any more."""
        for item in items:
            name = item.item_text.item.external_id
            judgment = judge_pool_item(
                pool_item=item,
                user=self.user,
                verdict=self.verdict_on(name),
                key=self._key("pool", item.pool_id, name),
                duration_ms=self._takes(2, 9, name),
                at=self.now,
            )
            self._tally.note_judgment(judgment, name, is_live=False)

    # --- helpers ----------------------------------------------------------------------------------------------------

    def _key(self, *about: object) -> uuid.UUID:
        return key_for(self._seed, *about)

    def _takes(self, low: int, high: int, *about: object) -> int:
        """Move the clock on by some seconds; how many milliseconds that was."""
        duration_ms = int(1000 * (low + (high - low) * chance(self._seed, "takes", *about)))
        self.now += timedelta(milliseconds=duration_ms)
        return duration_ms


def _longer(text: str, suggestion: Suggestion) -> str:
    """The suggested phrase and the next token of the text after it; "" at the end of the text, or before a mask."""
    rules = get_analysis(get_engine().analysis)
    after = [token.end for token in rules.spans(text, MatchMode.PHRASE) if token.start >= (suggestion.span_end or 0)]
    longer = text[suggestion.span_start : after[0]] if after else ""
    return "" if MASK in longer else longer
