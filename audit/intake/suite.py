"""Load a labelled suite: a folder with items.jsonl.gz and reports.jsonl, indexed by the token rule of the suite.

Labels are not loaded: what an auditor, a suggester or a model knows of the items is what a live site would know.
"""

import gzip
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import Any

from django.utils.text import slugify
from django.utils.translation import gettext as _

from audit import indexing
from audit.intake.reading import UnreadableFile
from audit.intake.rows import ComplaintRow, ItemRow
from audit.intake.store import IntakeCounts, create_policy, store_complaints, store_items
from audit.models import Policy

ITEMS = "items.jsonl.gz"
REPORTS = "reports.jsonl"
SAY_EVERY = 20_000
SEED = "20250218"
NEWEST = datetime(2025, 2, 18, tzinfo=UTC)
SPAN = timedelta(days=365)


@dataclass(frozen=True)
class SuiteChoice:
    """Which part of a suite is loaded. `reports` None: all of the split. Reported items count within `limit`."""

    folder: Path
    split: str = ""
    limit: int | None = None
    reports: int | None = None

    @property
    def platform(self) -> str:
        return self.folder.name[:40]

    @property
    def analysis(self) -> str:
        """The suites whose name begins with zh are cut by the Chinese rule, the others by the English one."""
        return "bench-zh-1" if self.folder.name.startswith("zh") else "bench-en-1"


def import_suite(
    choice: SuiteChoice, *, say: Callable[[str], None] = lambda line: None
) -> tuple[IntakeCounts, IntakeCounts]:
    """Store the items, build the index by the suite's own token rule, then open the reports; (items, complaints).

    The rebuild covers every item of the site, whatever its platform. Idempotent. Raises UnreadableFile, SearchError.
    """
    reports = _reports(choice)
    items = store_items(_counted(_item_rows(choice, {report["item_id"] for report in reports}), say))
    say(_("%(count)d items are stored; the index is being built.") % {"count": items.created + items.same})
    generation = indexing.rebuild(choice.analysis)
    say(
        _("Index %(name)s serves, with the text rules %(analysis)s.")
        % {"name": generation, "analysis": choice.analysis}
    )
    _ensure_policies({report["category"] for report in reports})
    complaints = store_complaints(_complaint_rows(choice, reports))
    say(_("%(count)d reports are open.") % {"count": complaints.created})
    return items, complaints


def suite_time(item_id: str) -> datetime:
    """A time for an item so that newest first is the order in which the suite reviews results.

    The suite orders by a keyed hash of the id, ascending; the hash is spread over one year before a fixed day.
    """
    digest = blake2b(f"{SEED}rank{item_id}".encode(), digest_size=8).digest()
    return NEWEST - SPAN * (int.from_bytes(digest, "big") / 2**64)


def policy_key(category: str) -> str:
    """The key of the policy that stands for a category of the suite."""
    return slugify(category.replace(":", "-").replace("/", "-").replace("(", "-"))[:60] or "other"


def _reports(choice: SuiteChoice) -> list[dict[str, Any]]:
    path = choice.folder / REPORTS
    if not path.is_file() or not (choice.folder / ITEMS).is_file():
        raise UnreadableFile(
            _("%(folder)s is no suite: it needs %(items)s and %(reports)s.")
            % {"folder": choice.folder, "items": ITEMS, "reports": REPORTS}
        )
    with path.open(encoding="utf-8") as lines:
        chosen = (report for report in map(json.loads, lines) if choice.split in ("", report["split"]))
        return list(islice(chosen, choice.reports))


def _item_rows(choice: SuiteChoice, reported: set[str]) -> Iterator[ItemRow]:
    room = None if choice.limit is None else choice.limit - len(reported)
    with gzip.open(choice.folder / ITEMS, "rt", encoding="utf-8") as lines:
        for number, item in enumerate(map(json.loads, lines), start=1):
            if choice.split not in ("", item["split"]):
                continue
            if room is not None and item["id"] not in reported:
                if room <= 0:
                    continue
                room -= 1
            yield ItemRow(
                platform=choice.platform,
                external_id=item["id"],
                text=item["text"],
                created=suite_time(item["id"]),
                line=number,
            )


def _counted(rows: Iterator[ItemRow], say: Callable[[str], None]) -> Iterator[ItemRow]:
    for number, row in enumerate(rows, start=1):
        if number % SAY_EVERY == 0:
            say(_("%(count)d items read.") % {"count": number})
        yield row


def _complaint_rows(choice: SuiteChoice, reports: list[dict[str, Any]]) -> Iterator[ComplaintRow]:
    for number, report in enumerate(reports, start=1):
        yield ComplaintRow(
            platform=choice.platform,
            external_id=report["id"],
            item_external_id=report["item_id"],
            policy=policy_key(report["category"]),
            at=suite_time(report["item_id"]),
            line=number,
        )


def _ensure_policies(categories: set[str]) -> None:
    for category in sorted(categories):
        if not Policy.objects.filter(key=policy_key(category)).exists():
            create_policy(key=policy_key(category), name=category[:120])
