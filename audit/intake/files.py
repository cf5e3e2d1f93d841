"""Whole files: previewed, imported with progress, stopped, and gone on with where they stopped.

The row of an import (ImportFile) is written in the transaction of each chunk, so it says exactly what is stored. To go
on, the file is read again from its beginning; lines up to `ImportFile.line` are only remembered, for the duplicates.
"""

import hashlib
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import IO, Any, cast
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from django.contrib.auth.models import User
from django.core.files.base import File
from django.core.files.uploadedfile import UploadedFile
from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from audit.indexing import Feeder
from audit.intake.duplicates import SeenKeys, without_duplicates
from audit.intake.reading import (
    FileFormat,
    Read,
    UnreadableFile,
    format_of,
    ignored_names,
    open_stream,
    read_records,
    read_rows,
)
from audit.intake.rows import ComplaintRow, ItemRow, Problem, RowDefaults
from audit.intake.store import CHUNK, IntakeCounts, store_complaint_chunk, store_item_chunk
from audit.models import ImportFile, ImportKind, JobState
from audit.queueing import enqueue_after_commit

KEPT_PROBLEMS = 1_000
PREVIEW_LINES = 200
PREVIEW_ROWS = 10
IMPORT_JOB = "audit.jobs.run_import"

Progress = Callable[[ImportFile], None]


class ImportStopped(Exception):
    """Somebody cancelled the import; what was stored stays, and it can be gone on with."""


@dataclass(frozen=True)
class ImportOptions:
    """How a file is read. Kept with the import: a file is gone on with only under the same options."""

    format: FileFormat
    platform: str = ""
    zone: str = ""
    create_policies: bool = False

    @classmethod
    def make(
        cls, name: str, *, format: str = "", platform: str = "", zone: str = "", create_policies: bool = False
    ) -> "ImportOptions":
        """Options from what a person wrote. Raises UnreadableFile with the sentence for them."""
        _zone(zone)
        chosen = FileFormat(format) if format else format_of(name)
        return cls(format=chosen, platform=platform, zone=zone, create_policies=create_policies)

    @classmethod
    def load(cls, values: Mapping[str, Any]) -> "ImportOptions":
        return cls(**(dict(values) | {"format": FileFormat(values["format"])}))

    def dump(self) -> dict[str, Any]:
        return {
            "format": self.format.value,
            "platform": self.platform,
            "zone": self.zone,
            "create_policies": self.create_policies,
        }

    @property
    def defaults(self) -> RowDefaults:
        return RowDefaults(platform=self.platform, zone=_zone(self.zone))


def _zone(name: str) -> ZoneInfo | None:
    if not name:
        return None
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise UnreadableFile(_("There is no time zone called %(name)s.") % {"name": name}) from None


# --- preview --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Preview:
    """The beginning of a file: its first rows as they would be stored, what is wrong, and names that are ignored."""

    rows: list[ItemRow | ComplaintRow] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)
    lines: int = 0


def preview(file: IO[bytes], kind: ImportKind, *, name: str, options: ImportOptions) -> Preview:
    """Read the first lines of a file and store nothing. Raises UnreadableFile."""
    file.seek(0)
    reads = list(islice(read_rows(open_stream(file, name), kind, options.format, options.defaults), PREVIEW_LINES))
    file.seek(0)
    records = islice(read_records(open_stream(file, name), kind, options.format), PREVIEW_LINES)
    ignored = ignored_names((name for record in records for name in record.values), kind)
    file.seek(0)
    rows = [read.row for read in reads if read.row is not None]
    problems = [read.problem for read in reads if read.reason]
    distinct = list(without_duplicates(rows, problems))
    return Preview(rows=distinct[:PREVIEW_ROWS], problems=problems, ignored=ignored, lines=len(reads))


# --- registering ----------------------------------------------------------------------------------------------------


def register_upload(
    upload: "UploadedFile[bytes]", kind: ImportKind, *, options: ImportOptions, user: User | None = None
) -> ImportFile:
    """Keep an uploaded file as a draft: `start_upload` queues its import once somebody has seen the preview."""
    return ImportFile.objects.create(
        kind=kind,
        name=(upload.name or "upload")[-200:],
        digest=_digest(upload),
        size=upload.size or 0,
        file=upload,
        options=options.dump(),
        state=JobState.DRAFT,
        user=user,
    )


@transaction.atomic
def start_upload(row: ImportFile) -> bool:
    """Queue the import of a draft; False where it was started before (a double click)."""
    started = ImportFile.objects.filter(pk=row.pk, state=JobState.DRAFT).update(state=JobState.QUEUED) == 1
    if started:
        enqueue_after_commit("data", IMPORT_JOB, row.pk, job_id=f"import-{row.pk}")
    return started


def register_path(path: Path, kind: ImportKind, options: ImportOptions) -> ImportFile:
    """The import of a file on disk: an earlier one of the same content that did not end, or a new one."""
    with path.open("rb") as file:
        digest = _digest(file)
    same = ImportFile.objects.filter(kind=kind, digest=digest, options=options.dump(), file="")
    unfinished = same.exclude(state=JobState.DONE).first()
    return unfinished or ImportFile.objects.create(
        kind=kind,
        name=path.name[-200:],
        digest=digest,
        size=path.stat().st_size,
        options=options.dump(),
        state=JobState.QUEUED,
    )


def _digest(file: "IO[bytes] | File[bytes]") -> str:
    digest = hashlib.sha256()
    while block := file.read(1_048_576):
        digest.update(block)
    file.seek(0)
    return digest.hexdigest()


# --- running --------------------------------------------------------------------------------------------------------


def run_import(import_file_id: int) -> None:
    """Import an uploaded file (a job). One that has ended, or that a command reads from disk, is left alone."""
    row = ImportFile.objects.get(pk=import_file_id)
    if row.file and row.state in {JobState.QUEUED, JobState.RUNNING}:
        with row.file.open("rb") as file:
            import_stream(row, cast(IO[bytes], file))


def import_stream(
    row: ImportFile, file: IO[bytes], *, progress: Progress = lambda row: None, index: bool = True
) -> ImportFile:
    """Import what is left of a file. Items are scored and indexed as they come in, unless `index` is false.

    The outcome is on the row: done, failed (with the reason), or as it was when the process was stopped.
    """
    row.state, row.error = JobState.RUNNING, ""
    row.save(update_fields=["state", "error"])
    try:
        _import_chunks(row, file, progress, index)
        row.state = JobState.DONE
    except UnreadableFile as error:
        row.state, row.error = JobState.FAILED, str(error)
    except ImportStopped:
        row.refresh_from_db()
        return row
    except Exception:
        row.state, row.error = JobState.FAILED, traceback.format_exc()[-4_000:]
        raise
    finally:
        if row.state != JobState.RUNNING:
            row.finished = timezone.now()
            row.save(update_fields=["state", "error", "finished"])
    return row


def dry_run(kind: ImportKind, options: ImportOptions, file: IO[bytes], name: str) -> tuple[IntakeCounts, int]:
    """What an import would do, and how many lines it has; every chunk is taken back."""
    total, lines, seen = IntakeCounts(), 0, SeenKeys()
    for chunk in _chunks_of(read_rows(open_stream(file, name), kind, options.format, options.defaults)):
        with transaction.atomic():
            counts = _store(kind, options, chunk, seen, 0)
            counts.ids.clear()
            total.add(counts)
            transaction.set_rollback(True)
        lines = chunk[-1].line
    return total, lines


def _import_chunks(row: ImportFile, file: IO[bytes], progress: Progress, index: bool) -> None:
    kind, options, seen = ImportKind(row.kind), ImportOptions.load(row.options), SeenKeys()
    reads = read_rows(open_stream(file, row.name), kind, options.format, options.defaults)
    with Feeder() if index and kind == ImportKind.ITEMS else nullcontext() as feeder:
        for chunk in _chunks_of(reads):
            if chunk[-1].line <= row.line:
                _store(kind, options, chunk, seen, row.line)
                continue
            with transaction.atomic():
                counts = _store(kind, options, chunk, seen, row.line)
                _note(row, counts, chunk[-1].line, file.tell())
            if feeder is not None:
                feeder.feed(counts.ids)
            progress(row)
    if feeder is not None and feeder.stopped:
        row.error = _("Everything is stored. Indexing goes on later: %(reason)s") % {"reason": feeder.stopped}


def _chunks_of(reads: Iterable[Read]) -> Iterator[list[Read]]:
    rest = iter(reads)
    while chunk := list(islice(rest, CHUNK)):
        yield chunk


def _store(kind: ImportKind, options: ImportOptions, reads: Sequence[Read], seen: SeenKeys, done: int) -> IntakeCounts:
    """Store one chunk; lines up to `done` were stored before and are only remembered."""
    problems: list[Problem] = [read.problem for read in reads if read.reason]
    rows = list(without_duplicates((read.row for read in reads if read.row is not None), problems, seen))
    counts = _store_rows(kind, options, [row for row in rows if row.line > done])
    counts.problems = sorted(
        (problem for problem in [*problems, *counts.problems] if problem.line > done), key=lambda one: one.line
    )
    return counts


def _store_rows(kind: ImportKind, options: ImportOptions, rows: Sequence[ItemRow | ComplaintRow]) -> IntakeCounts:
    if not rows:
        return IntakeCounts()
    if kind == ImportKind.ITEMS:
        return store_item_chunk(cast(Sequence[ItemRow], rows))
    return store_complaint_chunk(cast(Sequence[ComplaintRow], rows), create_policies=options.create_policies)


def _note(row: ImportFile, counts: IntakeCounts, line: int, offset: int) -> None:
    """Write the state of the import into its row, in the chunk's transaction. Raises ImportStopped."""
    row.line, row.offset = max(row.line, line), max(row.offset, offset)
    row.created_count += counts.created
    row.changed_count += counts.changed
    row.same_count += counts.same
    row.bad_count += len(counts.problems)
    room = KEPT_PROBLEMS - len(row.problems)
    row.problems += [[problem.line, problem.reason] for problem in counts.problems[:room]]
    fields = ("line", "offset", "created_count", "changed_count", "same_count", "bad_count", "problems")
    values = {name: getattr(row, name) for name in fields}
    if not ImportFile.objects.filter(pk=row.pk, state=JobState.RUNNING).update(**values):
        raise ImportStopped
