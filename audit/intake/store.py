"""Bulk intake of items and complaints: conflict-safe, idempotent by external id, the same on both databases.

Rows are stored in chunks of one short transaction each, in the order of their keys, so that two imports of the same
rows wait for each other instead of locking each other out. Reading, hashing and language detection happen before the
transaction: meanwhile others may write.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from itertools import groupby, islice
from operator import attrgetter
from typing import NamedTuple, TypeVar

from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import Count, F, OuterRef, Subquery
from django.utils import timezone
from django.utils.text import slugify
from django.utils.translation import gettext as _

from audit.intake.bulk import insert_items, insert_texts
from audit.intake.duplicates import without_duplicates
from audit.intake.rows import ComplaintRow, ItemRow, Problem
from audit.models import (
    Complaint,
    Item,
    ItemState,
    ItemText,
    Policy,
    PolicyVersion,
    Report,
    ReportEvent,
    ReportEventKind,
    SiteSettings,
    Verdict,
)
from audit.queueing import enqueue
from extraction.search import get_attached
from extraction.search.foreign import ForeignHit
from extraction.text import MatchMode, clean_text, detect_language, get_analysis

CHUNK = 500
CONFLICTS = 20
SUGGEST_JOB = "audit.jobs.suggest_for_report"

Key = tuple[str, str]
Row = TypeVar("Row", ItemRow, ComplaintRow)


@dataclass
class IntakeCounts:
    """What became of the rows; `ids` are the items that the index must learn."""

    created: int = 0
    changed: int = 0
    same: int = 0
    problems: list[Problem] = field(default_factory=list)
    ids: list[int] = field(default_factory=list)

    def add(self, other: "IntakeCounts") -> None:
        """Take over the figures of another chunk."""
        self.created += other.created
        self.changed += other.changed
        self.same += other.same
        self.problems += other.problems
        self.ids += other.ids


class TextForm(NamedTuple):
    """A text as ItemText keeps it. `norm_hash` is empty where nothing but punctuation is in the text."""

    text: str
    text_hash: str
    norm_hash: str
    analysis: str
    language: str


def text_form(raw: str, language: str = "") -> TextForm:
    """Clean a text and compute what is stored beside it."""
    text = clean_text(raw)
    analysis = get_analysis()
    key = analysis.key(text, MatchMode.PHRASE)
    return TextForm(
        text=text,
        text_hash=text_digest(text),
        norm_hash=text_digest(key) if key else "",
        analysis=analysis.name,
        language=language or detect_language(text),
    )


# --- items ----------------------------------------------------------------------------------------------------------


def store_items(rows: Iterable[ItemRow], *, at: datetime | None = None) -> IntakeCounts:
    """Create or update items by (platform, external id). An edited text is a new ItemText; the version rises.

    A removed item stays removed and one that is gone stays gone. Rows are not indexed here (audit.indexing).
    """
    total = IntakeCounts()
    for chunk in chunks(without_duplicates(rows, total.problems)):
        total.add(store_item_chunk(chunk, at=at))
    return total


def store_item_chunk(rows: Sequence[ItemRow], *, at: datetime | None = None) -> IntakeCounts:
    """One chunk of distinct items in one transaction; the result names the items to index."""
    ordered = sorted(rows, key=attrgetter("key"))
    forms = {row.key: text_form(row.text, row.language) for row in ordered}
    return _until_alone(lambda: _store_item_chunk(ordered, forms, at or timezone.now()))


@transaction.atomic
def _store_item_chunk(rows: Sequence[ItemRow], forms: Mapping[Key, TextForm], now: datetime) -> IntakeCounts:
    known = _lock_items(row.key for row in rows)
    fresh = [row for row in rows if row.key not in known]
    changed = [(known[row.key], row) for row in rows if row.key in known and _differs(known[row.key], row, forms)]
    ids = _create_items(fresh, forms, now) + _change_items(changed, forms, now)
    same = len(rows) - len(fresh) - len(changed)
    return IntakeCounts(created=len(fresh), changed=len(changed), same=same, ids=ids)


def _lock_items(keys: Iterable[Key]) -> dict[Key, Item]:
    """The items of these keys with their texts, locked where the database can (SQLite locks the whole transaction)."""
    found: dict[Key, Item] = {}
    for platform, group in groupby(sorted(set(keys)), key=lambda key: key[0]):
        items = Item.objects.filter(
            platform=platform, external_id__in=[external_id for _platform, external_id in group]
        )
        items = items.select_related("text").select_for_update(of=("self",), no_key=True).order_by("pk")
        found |= {(item.platform, item.external_id): item for item in items}
    return found


def _differs(item: Item, row: ItemRow, forms: Mapping[Key, TextForm]) -> bool:
    """An erased item takes nothing in any more, whatever the platform still sends."""
    if item.text is not None and not item.text.text and item.state == ItemState.GONE:
        return False
    same_text = item.text is not None and item.text.text_hash == forms[row.key].text_hash
    return not same_text or (item.author_key, item.url, item.created) != (row.author_key, row.url, row.created)


def _create_items(rows: Sequence[ItemRow], forms: Mapping[Key, TextForm], now: datetime) -> list[int]:
    insert_items(((row.platform, row.external_id, row.author_key, row.url, row.created) for row in rows), now)
    ids = _ids_of(rows)
    insert_texts(((ids[row.key], *forms[row.key]) for row in rows), now)
    only_text = ItemText.objects.filter(item=OuterRef("pk")).values("pk")[:1]
    Item.objects.filter(pk__in=ids.values()).update(text=Subquery(only_text))
    return list(ids.values())


def _ids_of(rows: Sequence[ItemRow]) -> dict[Key, int]:
    ids: dict[Key, int] = {}
    for platform in {row.platform for row in rows}:
        items = Item.objects.filter(
            platform=platform, external_id__in=[r.external_id for r in rows if r.platform == platform]
        )
        ids |= {(platform, external_id): pk for pk, external_id in items.values_list("pk", "external_id")}
    return ids


def _change_items(pairs: Sequence[tuple[Item, ItemRow]], forms: Mapping[Key, TextForm], now: datetime) -> list[int]:
    texts = _texts_of(pairs, forms, now)
    for item, row in pairs:
        text = texts[item.pk, forms[row.key].text_hash]
        if item.text_id != text.pk:
            item.text, item.risk, item.risk_version = text, None, None
        item.author_key, item.url, item.created = row.author_key, row.url, row.created
        item.version += 1
    Item.objects.bulk_update(
        [item for item, _row in pairs],
        ["text", "author_key", "url", "created", "version", "risk", "risk_version"],
    )
    return [item.pk for item, _row in pairs]


def _texts_of(
    pairs: Sequence[tuple[Item, ItemRow]], forms: Mapping[Key, TextForm], now: datetime
) -> dict[tuple[int, str], ItemText]:
    """The text rows that the changed items now need: an edit back to an earlier wording finds the earlier row."""
    known = ItemText.objects.filter(
        item__in=[item.pk for item, _row in pairs], text_hash__in={forms[row.key].text_hash for _item, row in pairs}
    )
    texts = {(text.item_id, text.text_hash): text for text in known}
    missing = [(item, form) for item, row in pairs if (item.pk, (form := forms[row.key]).text_hash) not in texts]
    created = ItemText.objects.bulk_create(_item_text(item, form, now) for item, form in missing)
    return texts | {(text.item_id, text.text_hash): text for text in created}


def _item_text(item: Item, form: TextForm, now: datetime) -> ItemText:
    return ItemText(
        item=item,
        text=form.text,
        text_hash=form.text_hash,
        norm_hash=form.norm_hash,
        analysis=form.analysis,
        language=form.language,
        at=now,
    )


@transaction.atomic
def mark_gone(platform: str, external_ids: Iterable[str]) -> tuple[list[int], list[str]]:
    """The platform took these items down. Returns (ids that are gone since now, external ids that are not known)."""
    wanted = dict.fromkeys(external_ids)
    known = _lock_items((platform, external_id) for external_id in wanted)
    ids = [item.pk for item in known.values() if item.state != ItemState.GONE]
    Item.objects.filter(pk__in=ids).update(state=ItemState.GONE, version=F("version") + 1)
    return ids, [external_id for external_id in wanted if (platform, external_id) not in known]


def equal_known_toxic(item_text: ItemText) -> ItemText | None:
    """The newest text of another item that equals this one (normalised) and is judged toxic, undisputed."""
    if not item_text.norm_hash:
        return None
    equal = ItemText.objects.filter(
        norm_hash=item_text.norm_hash, analysis=item_text.analysis, standing_verdicts__verdict=Verdict.TOXIC
    )
    return equal.exclude(item=item_text.item_id).select_related("item").order_by("-pk").first()


# --- complaints -----------------------------------------------------------------------------------------------------


def store_complaints(
    rows: Iterable[ComplaintRow],
    *,
    at: datetime | None = None,
    create_policies: bool = False,
    suggest: bool = True,
) -> IntakeCounts:
    """Add complaints to the open reports of their items, or open new ones; idempotent by (platform, external id).

    `created` counts complaints. A report opened after an earlier one was closed names it as `previous`. With `suggest`
    a job computes the suggestions of each new report; where the queue is down, the next tick finds it pending.
    """
    total = IntakeCounts()
    for chunk in chunks(without_duplicates(rows, total.problems)):
        total.add(store_complaint_chunk(chunk, at=at, create_policies=create_policies, suggest=suggest))
    return total


def foreign_platform() -> str:
    """The platform under which the items of an attached index are kept."""
    return str((settings.SEARCH_ATTACH or {}).get("platform", ""))


def store_foreign(hits: Sequence[ForeignHit]) -> IntakeCounts:
    """Item rows for items of the attached index, with their texts as they are there now."""
    rows = [
        ItemRow(foreign_platform(), hit.external_id, hit.text, hit.created, author_key=hit.author, url=hit.url)
        for hit in hits
    ]
    return store_item_chunk(rows) if rows else IntakeCounts()


def _store_reported_foreign(rows: Sequence[ComplaintRow]) -> None:
    """On an attached site, make rows for the items that are complained about and not known yet."""
    engine, platform = get_attached(), foreign_platform()
    if engine is None:
        return
    reported = {row.item_external_id for row in rows if row.platform == platform}
    known = Item.objects.filter(platform=platform, external_id__in=reported).values_list("external_id", flat=True)
    store_foreign(engine.get_many_foreign(sorted(reported - set(known))))


def store_complaint_chunk(
    rows: Sequence[ComplaintRow], *, at: datetime | None = None, create_policies: bool = False, suggest: bool = True
) -> IntakeCounts:
    """One chunk of distinct complaints in one transaction. Raises SearchError on an attached site only."""
    _store_reported_foreign(rows)
    return _until_alone(lambda: _store_complaint_chunk(rows, at or timezone.now(), create_policies, suggest))


@transaction.atomic
def _store_complaint_chunk(
    rows: Sequence[ComplaintRow], now: datetime, create_policies: bool, suggest: bool
) -> IntakeCounts:
    counts = IntakeCounts()
    stored = _stored_complaints(rows)
    fresh = [row for row in rows if row.key not in stored]
    counts.same = len(rows) - len(fresh)
    policies = _policies({row.policy for row in fresh}, create_policies, now)
    items = _lock_items(row.item_key for row in fresh)
    good = list(_with_item_and_policy(fresh, items, policies, counts.problems))
    reports = _open_reports(good, items, policies, now, suggest)
    Complaint.objects.bulk_create(_complaint(row, reports[items[row.item_key].pk], policies, now) for row in good)
    _count_complaints({report.pk for report in reports.values()})
    counts.created = len(good)
    return counts


def _stored_complaints(rows: Sequence[ComplaintRow]) -> set[Key]:
    stored: set[Key] = set()
    for platform in {row.platform for row in rows}:
        ids = [row.external_id for row in rows if row.platform == platform]
        found = Complaint.objects.filter(platform=platform, external_id__in=ids)
        stored |= {(platform, external_id) for external_id in found.values_list("external_id", flat=True)}
    return stored


def _policies(keys: set[str], create: bool, now: datetime) -> dict[str, Policy]:
    policies = {policy.key: policy for policy in Policy.objects.filter(key__in=keys)}
    missing = sorted(key for key in keys - policies.keys() if key == slugify(key)) if create else []
    return policies | {key: create_policy(key=key, name=key, at=now) for key in missing}


def create_policy(*, key: str, name: str, at: datetime | None = None) -> Policy:
    """A policy with a first version that says no more than its name; an administrator writes the definitions."""
    policy = Policy.objects.create(key=key, name=name)
    PolicyVersion.objects.create(
        policy=policy,
        number=1,
        toxic=_("Breaks the rule “%(name)s”.") % {"name": name},
        normal=_("Does not break the rule “%(name)s”.") % {"name": name},
        at=at or timezone.now(),
    )
    return policy


def _with_item_and_policy(
    rows: Iterable[ComplaintRow], items: Mapping[Key, Item], policies: Mapping[str, Policy], problems: list[Problem]
) -> Iterator[ComplaintRow]:
    for row in rows:
        if row.item_key not in items:
            reason = _("item %(item)s of %(platform)s is not known; import the items first.")
            problems.append(Problem(row.line, reason % {"item": row.item_external_id, "platform": row.platform}))
        elif row.policy not in policies:
            reason = _("there is no policy with the key %(key)s.")
            problems.append(Problem(row.line, reason % {"key": row.policy}))
        else:
            yield row


def _open_reports(
    rows: Sequence[ComplaintRow],
    items: Mapping[Key, Item],
    policies: Mapping[str, Policy],
    now: datetime,
    suggest: bool,
) -> dict[int, Report]:
    """The open report of each item that is complained about, by item id; opens those that are missing."""
    first = {items[row.item_key].pk: (items[row.item_key], row) for row in reversed(rows)}
    open_now = Report.objects.open().filter(item__in=first).select_for_update(no_key=True).order_by("pk")
    reports = {report.item_id: report for report in open_now}
    missing = {pk: pair for pk, pair in first.items() if pk not in reports}
    closed = Report.objects.filter(item__in=missing).order_by("pk")
    previous = {report.item_id: report for report in closed}
    due = now + timedelta(hours=SiteSettings.load().due_hours)
    opened = Report.objects.bulk_create(
        Report(
            item=item,
            item_text=item.text,
            policy=policies[row.policy],
            previous=previous.get(pk),
            opened=now,
            due=due,
        )
        for pk, (item, row) in sorted(missing.items())
    )
    ReportEvent.objects.bulk_create(
        ReportEvent(report=report, kind=ReportEventKind.OPENED, at=now, policy=report.policy) for report in opened
    )
    if suggest and opened:
        transaction.on_commit(partial(_enqueue_suggestions, [report.pk for report in opened]))
    return reports | {report.item_id: report for report in opened}


def _complaint(row: ComplaintRow, report: Report, policies: Mapping[str, Policy], now: datetime) -> Complaint:
    return Complaint(
        report=report,
        item_text=report.item.text or report.item_text,
        platform=row.platform,
        external_id=row.external_id,
        reporter_key=row.reporter_key,
        reason=row.reason,
        policy=policies[row.policy],
        at=row.at,
        imported=now,
    )


def _count_complaints(report_ids: set[int]) -> None:
    count = (
        Complaint.objects.filter(report=OuterRef("pk")).order_by().values("report").annotate(n=Count("pk")).values("n")
    )
    Report.objects.filter(pk__in=report_ids).update(complaint_count=Subquery(count))


def _enqueue_suggestions(report_ids: Sequence[int]) -> None:
    for report_id in report_ids:
        if not enqueue("suggest", SUGGEST_JOB, report_id, job_id=f"suggest-{report_id}"):
            return


# --- helpers --------------------------------------------------------------------------------------------------------


def chunks(rows: Iterable[Row], size: int = CHUNK) -> Iterator[list[Row]]:
    """Cut a stream into lists of at most `size` rows."""
    rest = iter(rows)
    while chunk := list(islice(rest, size)):
        yield chunk


def _until_alone(store: Callable[[], IntakeCounts]) -> IntakeCounts:
    """Store a chunk. Where another import inserted one of its rows between our look and our insert, look again.

    Every such conflict means that the other one got on, so a few rounds end it.
    """
    for _attempt in range(CONFLICTS):
        try:
            return store()
        except IntegrityError:
            continue
    return store()


def text_digest(text: str) -> str:
    """SHA-256 of a text as it came: `ItemText.text_hash`."""
    return hashlib.sha256(text.encode()).hexdigest()
