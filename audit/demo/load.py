"""Load the demo: make the month happen, event by event, through the same services as the site's own pages.

An interrupted load goes on where it stopped. Recorded requests mark the beginning (its time is the demo's present),
each finished day and the end; within a day every event is stored whole or not at all, and not a second time.
"""

import math
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.conf import settings
from django.contrib.auth.models import User
from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from audit import indexing, risk_training
from audit.demo.cast import Cast, login_lines, make_cast
from audit.demo.past import Shift, Truth, reinstate_mistakes
from audit.demo.policies import POLICIES
from audit.demo.texts import DAYS, DEMO_SEED, DEMO_SIZE, MINUTES_A_DAY, DemoItem, generate
from audit.demo.timeline import (
    PAST_REPORTS,
    WAITING_REPORTS,
    Event,
    Grievance,
    ItemsArrive,
    RefitDue,
    ReportOpens,
    ReportWorked,
    timeline,
)
from audit.insights import roll_up
from audit.intake import ComplaintRow, ItemRow, store_complaints, store_items
from audit.models import (
    Complaint,
    Item,
    ItemState,
    Policy,
    PolicyVersion,
    RecordedRequest,
    Report,
    ReportStatus,
    SuggestionsState,
)
from audit.suggesting import suggest
from extraction.models import RiskModel
from extraction.registry import serving_row
from extraction.search import get_engine

PLATFORM = "demo"
BEGIN = uuid.uuid5(uuid.NAMESPACE_URL, "https://example.invalid/demo/begin")
END = uuid.uuid5(uuid.NAMESPACE_URL, "https://example.invalid/demo/end")
REINSTATED_AT = (10, 17, 24)
"""Days on which the posts that were removed by mistake are looked at again."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class DemoOptions:
    """How much is loaded; tests load less."""

    seed: int = DEMO_SEED
    size: int = DEMO_SIZE
    past: int = PAST_REPORTS
    waiting: int = WAITING_REPORTS


def is_complete() -> bool:
    return RecordedRequest.objects.filter(key=END).exists()


def is_begun() -> bool:
    return RecordedRequest.objects.filter(key=BEGIN).exists()


def is_empty() -> bool:
    """Nothing is in the database that a person or a platform put there."""
    return not (Item.objects.exists() or User.objects.exists())


def load(options: DemoOptions, *, say: Say = lambda line: None) -> None:
    """Load the demo, or the rest of it. Raises NameTaken, SearchError."""
    cast, now = _begin()
    write_logins()
    say(_("Writing the demo's posts."))
    items = generate(seed=options.seed, size=options.size)
    truth = Truth({item.external_id: item for item in items}, _ensure_policies(now))
    history = _History(cast, truth, now, say)
    for event in timeline(items, seed=options.seed, past=options.past, waiting=options.waiting):
        history.happen(event)
    history.catch_up()
    _mark(END, "demo ends", cast, timezone.now())


def write_logins() -> None:
    """Leave the logins where the starter looks for them."""
    (settings.VAR_DIR / "demo_logins.txt").write_text(login_lines())


@transaction.atomic
def _begin() -> tuple[Cast, datetime]:
    cast = make_cast()
    _mark(BEGIN, "demo begins", cast, timezone.now())
    return cast, RecordedRequest.objects.get(key=BEGIN).at


@transaction.atomic
def _ensure_policies(now: datetime) -> dict[str, Policy]:
    for demo in POLICIES:
        policy, created = Policy.objects.get_or_create(key=demo.key, defaults={"name": demo.title})
        if created:
            PolicyVersion.objects.create(
                policy=policy,
                number=1,
                text=demo.text,
                toxic=demo.toxic,
                normal=demo.normal,
                cant_tell=demo.cant_tell,
                at=now - timedelta(days=DAYS + 1),
            )
    return {policy.key: policy for policy in Policy.objects.filter(key__in=[demo.key for demo in POLICIES])}


class _History:
    """Makes the events happen, each at its time before `now`; those before the last finished day already have."""

    def __init__(self, cast: Cast, truth: Truth, now: datetime, say: Say) -> None:
        self.cast = cast
        self.truth = truth
        self.now = now
        self.say = say
        self.done_until = _finished_until()

    def happen(self, event: Event) -> None:
        if event.minutes_back > self.done_until:
            return
        at = self.now - timedelta(minutes=event.minutes_back)
        match event:
            case ItemsArrive():
                self._arrive(event, at)
            case ReportOpens():
                self._open(event, at)
            case RefitDue():
                self._refit_if_due(at)
            case ReportWorked():
                self._work(event, at)

    def catch_up(self) -> None:
        """Learn from the whole month, score everything, and prepare the reports that wait."""
        self.say(_("Learning from %(count)d reports.") % {"count": _worked()})
        self._refit(self.now)
        indexing.rescore()
        _sweep()
        waiting = Report.objects.open().filter(item__platform=PLATFORM, suggestions_state=SuggestionsState.PENDING)
        reports = waiting.in_queue_order().select_related("item", "item_text", "policy")
        self.say(_("Preparing suggestions for %(count)d waiting reports.") % {"count": len(reports)})
        for report in reports:
            suggest(report)
        roll_up()

    def _arrive(self, event: ItemsArrive, at: datetime) -> None:
        """A day ends: its posts are stored and indexed, and what happened before counts as done."""
        store_items(map(self._row, event.items), at=at)
        _sweep()
        day = DAYS - event.minutes_back // MINUTES_A_DAY
        with transaction.atomic():
            if _mark(_day_key(event.minutes_back), "demo day", self.cast, at) and day in REINSTATED_AT:
                reinstate_mistakes(self.truth, self.cast.auditors[0], at)
        _sweep()
        if day % 5 == 0:
            figures = {"day": day, "days": DAYS, "items": Item.objects.filter(platform=PLATFORM).count()}
            self.say(
                _("Day %(day)d of %(days)d: %(items)d posts, %(reports)d reports worked through.")
                % (figures | {"reports": _worked()})
            )

    def _row(self, item: DemoItem) -> ItemRow:
        return ItemRow(
            platform=PLATFORM,
            external_id=item.external_id,
            text=item.text,
            created=self.now - timedelta(minutes=item.minutes_back),
            author_key=item.author_key,
            url=item.url,
            language=item.language,
        )

    def _open(self, event: ReportOpens, at: datetime) -> None:
        """Users complain about what they still see."""
        complaints = [complaint.external_id for choice in event.choices for complaint in choice.complaints]
        if Complaint.objects.filter(platform=PLATFORM, external_id__in=complaints).exists():
            return
        posts = [choice.item.external_id for choice in event.choices]
        live = Item.objects.filter(platform=PLATFORM, external_id__in=posts, state=ItemState.LIVE)
        still_there = set(live.values_list("external_id", flat=True))
        grievance = next((choice for choice in event.choices if choice.item.external_id in still_there), None)
        if grievance is not None:
            store_complaints(self._complaint_rows(grievance, at), at=at, suggest=False)

    def _complaint_rows(self, grievance: Grievance, at: datetime) -> Iterator[ComplaintRow]:
        for complaint in grievance.complaints:
            yield ComplaintRow(
                platform=PLATFORM,
                external_id=complaint.external_id,
                item_external_id=grievance.item.external_id,
                policy=grievance.policy,
                at=min(self.now - timedelta(minutes=complaint.minutes_back), at),
                reporter_key=complaint.reporter_key,
                reason=complaint.reason,
            )

    def _refit_if_due(self, at: datetime) -> None:
        if not RiskModel.objects.filter(fitted__gte=at).exists() and (
            serving_row() is None or risk_training.is_refit_due()
        ):
            self._refit(at)

    def _refit(self, at: datetime) -> None:
        if not RiskModel.objects.filter(fitted=at).exists():
            risk_training.refit(user_id=self.cast.admin.pk, at=at)

    def _work(self, event: ReportWorked, at: datetime) -> None:
        reports = Report.objects.open().filter(item__platform=PLATFORM, item__external_id=event.item.external_id)
        report = reports.select_related("item", "item_text", "policy").first()
        if report is None:
            return
        with transaction.atomic():
            suggest(report, at=at - timedelta(minutes=1))
            report.refresh_from_db()
            Shift(report, self.cast.auditors[event.auditor], self.truth, at).work()
        _sweep()


def _day_key(minutes_back: int) -> uuid.UUID:
    return uuid.uuid5(BEGIN, f"day {minutes_back}")


def _finished_until() -> float:
    """Minutes back from the demo's present; every event before it has happened."""
    days = {day * MINUTES_A_DAY: _day_key(day * MINUTES_A_DAY) for day in range(DAYS)}
    recorded = set(RecordedRequest.objects.filter(key__in=days.values()).values_list("key", flat=True))
    return min((minutes for minutes, key in days.items() if key in recorded), default=math.inf)


def _mark(key: uuid.UUID, action: str, cast: Cast, at: datetime) -> bool:
    """Record that a step of the load is done; False where it was before."""
    return RecordedRequest.objects.get_or_create(key=key, defaults={"action": action, "user": cast.admin, "at": at})[1]


def _worked() -> int:
    return Report.objects.filter(item__platform=PLATFORM, status=ReportStatus.CLOSED).count()


def _sweep() -> None:
    """Index what is behind, visible to the next search. Raises SearchError."""
    while indexing.sweep():
        pass
    get_engine().refresh()
