"""Frozen evaluation sets: reports that were confirmed after a cut-off, and the index as it was live at that moment.

`freeze` writes down, in one file, which text of which item was live then. The digest of that file names the set, so the
same set always has the same digest, and a worker with an empty disk builds the very same index from it.

What was live is read from rows that are only ever added: an item that had come in by then, with the newest of its texts
up to then, unless the last removal up to then took it out. Two things the rows do not tell: when an item left the
platform (one that is gone counts as still there), and that an author went back to an earlier wording (the later one
counts).

A text is the unit: an index entry's id is that of the item text, since verdicts are about texts.
"""

import json
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from pathlib import Path

from django.conf import settings
from django.contrib.auth.models import User
from django.db import IntegrityError, transaction
from django.db.models import Q, QuerySet
from django.utils.translation import gettext as _

from audit.models import Item, ItemText, Outcome, Removal, RemovalKind, Report, ReportStatus
from audit.services.erasing import erasures
from extraction.artifacts import fetch_file, store_file
from extraction.errors import IndexMissing
from extraction.search import Document, Order, SearchRequest, get_attached, get_engine
from extraction.search.base import read_time, stored_time
from extraction.search.fts5 import Fts5Engine
from extraction.text import Analysis, MatchMode, get_analysis
from training.metrics import DEPTH
from training.models import EvaluationSet
from training.near import near_duplicate_clusters

MOST_REPORTS = 400
_CHUNK = 2_000


class CannotFreeze(Exception):
    """There is nothing to freeze, or the name is taken; the sentence is for the person."""


# --- freezing -------------------------------------------------------------------------------------------------------


def freeze(name: str, *, cutoff: datetime, user: User | None = None, most: int = MOST_REPORTS) -> EvaluationSet:
    """Freeze the `most` newest reports that were opened after `cutoff` and confirmed, and the index of that moment.

    A text that was reported twice is tested once. Memory does not grow with the number of items. Raises CannotFreeze,
    and SearchError where the site has no index yet, whose text rules the frozen one takes over.
    """
    if get_attached() is not None:
        raise CannotFreeze(_("This site searches an index of another owner, of which it keeps no history to freeze."))
    reports = _reports(cutoff, most)
    if not reports:
        raise CannotFreeze(_("No report that was opened after this moment is confirmed: there is nothing to test on."))
    clusters = _clusters(reports)
    with tempfile.NamedTemporaryFile("w", dir=settings.VAR_DIR, suffix=".jsonl", encoding="utf-8") as file:
        analysis = get_engine().analysis
        head = {"cutoff": cutoff.isoformat(), "analysis": analysis, "reports": reports, "clusters": clusters}
        file.write(_line(head))
        items = 0
        for entry in _live_at(cutoff):
            file.write(_line(entry))
            items += 1
        if not items:
            raise CannotFreeze(_("No item was live at this moment: there is nothing to search in."))
        file.flush()
        digest = store_file(Path(file.name))
    try:
        with transaction.atomic():
            return EvaluationSet.objects.create(
                name=name, cutoff=cutoff, reports=reports, clusters=clusters, items=items, digest=digest, user=user
            )
    except IntegrityError as error:
        raise CannotFreeze(_("There is a test set of this name already; a frozen one does not change.")) from error


def confirmed_reports() -> QuerySet[Report]:
    """Reports whose text was judged toxic and still has its words."""
    confirmed = Q(outcome=Outcome.CONFIRMED) | Q(status=ReportStatus.EXPLORING)
    return Report.objects.filter(confirmed).exclude(item_text__text="")


def _reports(cutoff: datetime, most: int) -> list[list[int]]:
    """[[report id, item text id], …] by id."""
    after = confirmed_reports().filter(opened__gt=cutoff)
    newest = after.order_by("-opened", "-pk").values_list("item_text_id", "pk")
    by_text: dict[int, int] = {}
    for text_id, pk in newest.iterator(_CHUNK):
        by_text.setdefault(text_id, pk)
        if len(by_text) == most:
            break
    return sorted([pk, text_id] for text_id, pk in by_text.items())


def _clusters(reports: Sequence[Sequence[int]]) -> list[str]:
    texts = ItemText.objects.filter(pk__in=[text_id for _report_id, text_id in reports]).values_list("pk", "text")
    return sorted(set(near_duplicate_clusters(dict(texts)).values()))


def _line(value: object) -> str:
    return json.dumps(value, separators=(",", ":")) + "\n"


def _live_at(cutoff: datetime) -> Iterator[tuple[int, int]]:
    """(item text id, when its item was published, ms since 1970) of all that was live, in the order of items."""
    there = Item.objects.filter(imported__lte=cutoff, created__lte=cutoff).order_by("pk")
    after = 0
    while page := dict(there.filter(pk__gt=after).values_list("pk", "created")[:_CHUNK]):
        texts = _texts_at(cutoff, list(page))
        out = _removed_at(cutoff, list(page))
        for item_id, created in page.items():
            text_id = texts.get(item_id)
            if text_id is not None and item_id not in out:
                yield text_id, stored_time(created)
        after = max(page)


def _texts_at(cutoff: datetime, item_ids: Sequence[int]) -> dict[int, int]:
    """item id → the text that it had, without those whose words were erased."""
    rows = ItemText.objects.filter(item__in=item_ids, at__lte=cutoff).order_by("at", "pk")
    newest = dict(rows.values_list("item_id", "pk"))
    erased = set(rows.filter(text="").values_list("pk", flat=True))
    return {item_id: text_id for item_id, text_id in newest.items() if text_id not in erased}


def _removed_at(cutoff: datetime, item_ids: Sequence[int]) -> set[int]:
    rows = Removal.objects.filter(item__in=item_ids, at__lte=cutoff).order_by("pk").values_list("item_id", "kind")
    return {item_id for item_id, kind in dict(rows).items() if kind == RemovalKind.REMOVED}


# --- the frozen index -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ReportedText:
    """A report of a frozen set. `own`: the texts of the reported item, which no query of this report may find."""

    report_id: int
    text: str
    own: frozenset[int]


def reported_texts(evaluation_set: EvaluationSet) -> list[ReportedText]:
    """The reports in their fixed order. One whose text was erased since is left out: nobody can propose for it."""
    text_ids = [text_id for _report_id, text_id in evaluation_set.reports]
    rows = ItemText.objects.filter(pk__in=text_ids).exclude(text="").values_list("pk", "item_id", "text")
    found = {pk: (item_id, text) for pk, item_id, text in rows}
    of_item: dict[int, set[int]] = {}
    own = ItemText.objects.filter(item__in=[item_id for item_id, _text in found.values()])
    for item_id, pk in own.values_list("item_id", "pk"):
        of_item.setdefault(item_id, set()).add(pk)
    return [
        ReportedText(report_id, found[text_id][1], frozenset(of_item[found[text_id][0]]))
        for report_id, text_id in evaluation_set.reports
        if text_id in found
    ]


class FrozenIndex:
    """Exact search in what was live at the cut-off, newest first, the same for ever.

    The index lies in this machine's cache under the digest of its set. It is built there when it is first needed, and
    anew once a text was erased since. It is the embedded engine, whichever the site uses: both find the same.
    """

    def __init__(self, evaluation_set: EvaluationSet) -> None:
        """Raises SearchError, and DamagedArtifact where the set's file is missing or is not what it was."""
        self._engine = Fts5Engine(_place(evaluation_set.digest))
        self._found: dict[str, tuple[int, ...]] = {}
        try:
            name = self._engine.analysis
        except IndexMissing:
            name = _build(self._engine, evaluation_set.digest)
        self.analysis: Analysis = get_analysis(name)

    def find(self, query: str, *, but: AbstractSet[int] = frozenset()) -> tuple[int, ...]:
        """Ids of the newest 100 texts that match a phrase, without those of `but` (texts of one item)."""
        key = self.key(query)
        if not key:
            return ()
        if key not in self._found:
            request = SearchRequest(text=query, mode=MatchMode.PHRASE, size=DEPTH + 1, order=Order.RECENT)
            self._found[key] = tuple(hit.id for hit in self._engine.search(request).hits)
        return tuple(id_ for id_ in self._found[key] if id_ not in but)[:DEPTH]

    def key(self, query: str) -> str:
        """Phrases of one key are one query."""
        return self.analysis.key(query, MatchMode.PHRASE)


def _place(digest: str) -> Path:
    """Where the index of a set lies on this machine; one from before the last erasure is deleted."""
    of_set: Path = settings.VAR_DIR / "cache" / "frozen" / digest
    folder = of_set / f"after-{erasures().count()}-erasures"
    folder.mkdir(parents=True, exist_ok=True)
    for other in of_set.iterdir():
        if other != folder:
            shutil.rmtree(other, ignore_errors=True)
    return folder / "index.sqlite3"


def _build(engine: Fts5Engine, digest: str) -> str:
    """Build the index that a set's file describes; the name of its text rules."""
    with tempfile.TemporaryDirectory(dir=settings.VAR_DIR) as folder:
        here = Path(folder) / "set.jsonl"
        fetch_file(digest, here)
        with here.open(encoding="utf-8") as file:
            name: str = json.loads(file.readline())["analysis"]
            engine.rebuild(_documents(file), name)
    return name


def _documents(lines: Iterator[str]) -> Iterator[Document]:
    """The texts that the lines of a set's file name; one that was erased since is left out."""
    while chunk := list(islice(lines, _CHUNK)):
        created = dict(json.loads(line) for line in chunk)
        texts = ItemText.objects.filter(pk__in=created).exclude(text="").values_list("pk", "text", "language")
        for pk, text, language in texts.order_by("pk"):
            yield _document(pk, text, language, created[pk])


def _document(pk: int, text: str, language: str, created: int) -> Document:
    return Document(
        id=pk,
        text=text,
        version=1,
        live=True,
        created=read_time(created),
        risk=None,
        verdict="",
        language=language,
        platform="",
        author="",
    )
