"""A simulated auditor: works one report through, with the verbs that the pages call, at a time in the past.

The hidden truth stands in for the auditor's eyes; about three verdicts in a hundred are wrong.
"""

import random
import re
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.contrib.auth.models import User
from django.db import transaction

from audit.demo.texts import CAMPAIGN_OF, DemoItem
from audit.jobs import run_exploration
from audit.models import (
    Arm,
    Decision,
    DecisionKind,
    Exploration,
    Exposure,
    Item,
    ItemState,
    Judgment,
    Outcome,
    Policy,
    Report,
    StandingVerdict,
    Suggestion,
    Verdict,
)
from audit.services import (
    ServiceError,
    add_own_query,
    claim,
    close,
    decide,
    explore,
    judge,
    judge_report,
    open_page,
    reinstate,
    reveal_suggestions,
    undo_decision,
    undo_judgment,
)
from extraction.search import Order, SearchRequest, get_engine
from extraction.text import MatchMode

ERRORS = 0.03
CANT_TELL = 0.01
UNDONE = 0.01
SKIPPED = 0.05
ESCALATED = 0.03
TAKEN_BACK = 0.35
"""Share of the words that came to mind first, and that an auditor takes back when they see how much it would find."""
MOST_ACCEPTED = 4
MOST_PAGES = 2
MOST_JUDGED = 40
_HANDLE = re.compile(r"(?:vxdemo|demoq)\d{3}|qx\d{5}")


@dataclass(frozen=True)
class Truth:
    """The hidden truth by item key, and the policies by key."""

    items: Mapping[str, DemoItem]
    policies: Mapping[str, Policy]

    def of(self, item: Item) -> DemoItem:
        return self.items[item.external_id]


class Shift:
    """One auditor at one report. Every step moves the clock on, as a person would need."""

    def __init__(self, report: Report, user: User, truth: Truth, at: datetime) -> None:
        self.report = report
        self.user = user
        self.truth = truth
        self.now = at
        # Reproducible, nothing secret.
        self.rng = random.Random(f"shift {report.item.external_id}")  # noqa: S311

    def work(self) -> None:
        """Claim, judge, decide, explore, judge what was found, close: all of it or nothing."""
        with transaction.atomic():
            self.report = claim(report=self.report, user=self.user, key=self._key(), at=self.now)
            if self.rng.random() < SKIPPED:
                self._close(Outcome.SKIPPED, "I would rather not read this one.")
                return
            if not self._judge_report():
                return
            self._decide_all()
            if Decision.objects.to_run().filter(report=self.report).exists():
                self._explore()
            self._close(Outcome.CONFIRMED, "")

    # --- the reported text ------------------------------------------------------------------------------------------

    def _judge_report(self) -> bool:
        """Judge the reported text; True where the work goes on."""
        known = self.truth.of(self.report.item)
        verdict, reason = (Verdict.TOXIC if known.toxic else Verdict.NORMAL), ""
        if self.rng.random() < ESCALATED:
            verdict, reason = Verdict.CANT_TELL, "The text alone does not say what is sold."
        judge_report(
            report=self.report,
            user=self.user,
            verdict=verdict,
            policy=self.truth.policies[CAMPAIGN_OF[known.campaign].policy],
            reason=reason,
            key=self._key(),
            duration_ms=self._takes(8, 40),
            at=self.now,
        )
        self.report.refresh_from_db()
        return verdict == Verdict.TOXIC

    # --- queries ----------------------------------------------------------------------------------------------------

    def _decide_all(self) -> None:
        if self.report.arm == Arm.OWN_FIRST:
            self._add_own()
            self.report = reveal_suggestions(report=self.report, user=self.user, key=self._key(), at=self.now)
        accepted = 0
        for suggestion in Suggestion.objects.of_batch(self.report.batch_id):
            accepted += self._decide(suggestion, may_accept=accepted < MOST_ACCEPTED)
        for _phrase in range(2 if accepted < 2 else self.rng.randrange(2)):
            self._add_own()

    def _decide(self, suggestion: Suggestion, *, may_accept: bool) -> bool:
        """Accept, edit, reject or leave one suggestion; True where a query came of it."""
        likes = may_accept and self.rng.random() < self._liking(suggestion)
        if not likes and self.rng.random() < 0.2:
            return False
        kind, text = (DecisionKind.ACCEPTED if likes else DecisionKind.REJECTED), ""
        better = next((phrase for phrase in self._phrases() if phrase != suggestion.text), "")
        if likes and better and self.rng.random() < 0.15:
            kind, text = DecisionKind.EDITED, better
        try:
            decide(
                suggestion=suggestion,
                user=self.user,
                kind=kind,
                text=text,
                key=self._key(),
                duration_ms=self._takes(3, 15),
                at=self.now,
            )
        except ServiceError:  # an edit that equals the suggestion or another query: a person would leave it
            return False
        return likes

    def _liking(self, suggestion: Suggestion) -> float:
        """How likely an experienced eye takes this phrase: by what it would find in truth."""
        page = get_engine().search(
            SearchRequest(suggestion.text, MatchMode(suggestion.query.mode), size=50, order=Order.RECENT)
        )
        keys = Item.objects.filter(pk__in=[hit.id for hit in page.hits]).values_list("external_id", flat=True)
        toxic = [self.truth.items[key].toxic for key in keys]
        share = sum(toxic) / len(toxic) if toxic else 0.0
        return 0.75 if share >= 0.5 else 0.35 if share >= 0.15 else 0.05

    def _add_own(self) -> None:
        """A phrase that the auditor marks in the text, or the word that comes to mind first."""
        text = self.report.item_text.text
        phrases = list(self._phrases())
        naive = CAMPAIGN_OF[self.truth.of(self.report.item).campaign].naive
        phrase = naive if not phrases or self.rng.random() < 0.2 else self.rng.choice(phrases)
        start = text.find(phrase)
        try:
            made = add_own_query(
                report=self.report,
                user=self.user,
                text=phrase,
                mode=MatchMode.PHRASE,
                span=(start, start + len(phrase)) if start >= 0 else None,
                key=self._key(),
                duration_ms=self._takes(6, 30),
                at=self.now,
            )
        except ServiceError:  # it is a query of this report already
            return
        if phrase == naive and self.rng.random() < TAKEN_BACK:
            self._takes(1, 4)
            undo_decision(decision=made, user=self.user, key=self._key(), at=self.now)

    def _phrases(self) -> Iterator[str]:
        """What stands out in the text for somebody who knows the campaign: its set phrases and the handle."""
        text = self.report.item_text.text
        for phrase in CAMPAIGN_OF[self.truth.of(self.report.item).campaign].good:
            if phrase in text:
                yield phrase
        yield from _HANDLE.findall(text)

    # --- results ----------------------------------------------------------------------------------------------------

    def _explore(self) -> None:
        exploration = explore(reports=[self.report], user=self.user, key=self._key(), at=self.now)
        run_exploration(exploration.pk, at=self.now)
        exploration.refresh_from_db()
        for number in range(1, MOST_PAGES + 1):
            self._takes(2, 6)
            if not open_page(exploration=exploration, user=self.user, number=number, key=self._key(), at=self.now):
                return
            self._judge_page(exploration, number)

    def _judge_page(self, exploration: Exploration, number: int) -> None:
        exposures = (
            Exposure.objects.filter(run__exploration_query__exploration=exploration, page=number)
            .select_related("item", "item_text__item", "run__exploration_query__exploration")
            .order_by("position", "rank")
        )
        once = {exposure.position: exposure for exposure in reversed(exposures)}
        judged = set(
            StandingVerdict.objects.filter(item_text__in=[shown.item_text_id for shown in once.values()])
            .exclude(verdict="")
            .values_list("item_text_id", flat=True)
        )
        fresh = [once[position] for position in sorted(once) if once[position].item_text_id not in judged]
        for exposure in fresh[:MOST_JUDGED]:
            self._judge(exposure)

    def _judge(self, exposure: Exposure) -> None:
        known = self.truth.of(exposure.item)
        right = Verdict.TOXIC if known.toxic else Verdict.NORMAL
        drawn = self.rng.random()
        if drawn < CANT_TELL:
            self._record(exposure, Verdict.CANT_TELL, known)
        elif drawn < CANT_TELL + UNDONE:
            slip = self._record(exposure, _other(right), known)
            undo_judgment(judgment=slip, user=self.user, key=self._key(), at=self.now)
            self._record(exposure, right, known)
        else:
            self._record(exposure, _other(right) if drawn > 1 - ERRORS else right, known)

    def _record(self, exposure: Exposure, verdict: Verdict, known: DemoItem) -> Judgment:
        policy = self.truth.policies[CAMPAIGN_OF[known.campaign].policy] if known.toxic else self.report.policy
        return judge(
            exposure=exposure,
            user=self.user,
            verdict=verdict,
            policy=policy,
            reason="It depends on the picture." if verdict == Verdict.CANT_TELL else "",
            key=self._key(),
            duration_ms=self._takes(2, 9),
            at=self.now,
        )

    # --- helpers ----------------------------------------------------------------------------------------------------

    def _close(self, outcome: Outcome, reason: str) -> None:
        self._takes(1, 5)
        close(report=self.report, user=self.user, outcome=outcome, reason=reason, key=self._key(), at=self.now)

    def _key(self) -> uuid.UUID:
        return uuid.UUID(int=self.rng.getrandbits(128), version=4)

    def _takes(self, low: int, high: int) -> int:
        """Move the clock by some seconds; how many milliseconds that was."""
        duration_ms = self.rng.randrange(low * 1000, high * 1000)
        self.now += timedelta(milliseconds=duration_ms)
        return duration_ms


def reinstate_mistakes(truth: Truth, user: User, at: datetime) -> None:
    """Most honest posts that were removed by mistake come back, after their authors complained."""
    wrong = [
        item
        for item in Item.objects.filter(platform="demo", state=ItemState.REMOVED).order_by("pk")
        if not truth.of(item).toxic
    ]
    # Reproducible, nothing secret.
    rng = random.Random(f"reinstate {at:%j}")  # noqa: S311
    for item in wrong:
        if rng.random() < 0.7:
            key = uuid.UUID(int=rng.getrandbits(128), version=4)
            reinstate(item=item, user=user, reason="The author showed that this is an honest sale.", key=key, at=at)


def _other(verdict: Verdict) -> Verdict:
    return Verdict.NORMAL if verdict == Verdict.TOXIC else Verdict.TOXIC
