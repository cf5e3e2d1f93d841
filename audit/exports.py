"""Exports that people ask for on the page: the request, the job that makes the file, and its end after some days."""

import shutil
import time
import traceback
import uuid
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from django.conf import settings
from django.contrib.auth.models import User
from django.core.files import File
from django.core.files.storage import default_storage
from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _
from rq.timeouts import JobTimeoutException

from audit.logs import (
    STREAMS,
    FileRequest,
    Manifest,
    Privacy,
    Pseudonyms,
    Stream,
    Window,
    get_stream,
    write_file,
    written_rows,
)
from audit.logs.reading import aside
from audit.models import Export, ExportFormat, JobState
from audit.queueing import enqueue_after_commit
from audit.services.errors import Invalid
from audit.services.once import record_request

ATTEMPTS = 3
"""How often a job that died (its worker was killed) may write no part more before the export counts as failed."""

TOLD_EVERY_S = 5


@transaction.atomic
def request_export(
    *,
    user: User,
    stream: str,
    format: ExportFormat,
    key: uuid.UUID,
    since: datetime | None = None,
    until: datetime | None = None,
    is_unmasked: bool = False,
    reason: str = "",
) -> Export:
    """Record what is asked and queue the job that answers it.

    Raises Invalid for an unknown stream, a form that it does not have, a window without a moment in it, or masks taken
    off without right or reason.
    """
    record_request(key=key, user=user, action="export", at=None)
    if stream not in STREAMS:
        raise Invalid(_("There is no log of that name."))
    check_format(get_stream(stream), format)
    if since is not None and until is not None and since >= until:
        raise Invalid(_("The first day is after the last one."))
    check_masks(user=user, is_unmasked=is_unmasked, reason=reason)
    export = Export.objects.create(
        user=user,
        stream=stream,
        format=format,
        since=since,
        until=until,
        is_unmasked=is_unmasked,
        reason=reason.strip() if is_unmasked else "",
    )
    enqueue_after_commit("data", "audit.jobs.run_export", export.pk, job_id=f"export-{export.pk}")
    return export


def check_format(stream: Stream, format: ExportFormat) -> None:
    """Raises Invalid where the stream cannot be had as such a file."""
    if format not in stream.formats:
        raise Invalid(
            _("%(stream)s can be had as %(formats)s only.")
            % {"stream": stream.name, "formats": ", ".join(known.label for known in stream.formats)}
        )


def check_masks(*, user: User, is_unmasked: bool, reason: str) -> None:
    """Raises Invalid where masks are taken off without the right to, or without a reason."""
    if is_unmasked and not user.has_perm("audit.export_unmasked"):
        raise Invalid(_("You may not export without masks."))
    if is_unmasked and not reason.strip():
        raise Invalid(_("Say why the masks are taken off. The reason is kept with the export."))


def log_handed_over(*, user: User, stream: str, reason: str, manifest: dict[str, Any]) -> Export:
    """Keep that somebody took rows of a stream without masks, in a file that another page hands over (JSONL).

    `manifest`: its file, rows, sha256. Raises Invalid without the right or a reason.
    """
    check_masks(user=user, is_unmasked=True, reason=reason)
    return Export.objects.create(
        user=user,
        stream=stream,
        format=ExportFormat.JSONL,
        is_unmasked=True,
        reason=reason.strip(),
        state=JobState.DONE,
        rows=manifest["rows"],
        digest=manifest["sha256"],
        manifest=manifest,
        finished=timezone.now(),
    )


def visible_to(user: User) -> QuerySet[Export]:
    """One's own exports; whoever may view all rows of the log of exports (the admin) sees everyone's."""
    exports = Export.objects.select_related("user")
    return exports if user.has_perm("audit.view_export") else exports.filter(user=user)


def can_download(export: Export) -> bool:
    """The file is there and its days are not over."""
    return bool(export.file) and export.expires is not None and export.expires > timezone.now()


def run_export(export_id: int) -> None:
    """Make the file of one export and store it under its digest. Running it twice makes the same file once.

    A job that is killed, or whose time is over, leaves the parts that it wrote: the next one goes on after them.
    """
    export = Export.objects.filter(pk=export_id, state__in=[JobState.QUEUED, JobState.RUNNING]).first()
    if export is None:
        return
    request = _file_request(export)
    path = _folder(export_id) / request.name
    if not _take(export, written_rows(request, path)):
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with aside(_teller(export_id)) as tell:
            manifest = write_file(request, path, progress=tell)
        _finish(export, manifest, _store(path, manifest.sha256))
    except JobTimeoutException:
        raise
    except Exception:
        _fail(export_id, traceback.format_exc())
        raise
    expire()


def expire() -> int:
    """Delete the files whose days are over; the row stays, as the log of who took what. Returns how many ended.

    What a job that died has left goes too, once its export is not to be made any more.
    """
    now = timezone.now()
    over = list(Export.objects.filter(expires__lte=now).exclude(file=""))
    for export in over:
        name = export.file.name or ""
        Export.objects.filter(pk=export.pk).update(file="")
        _delete_unless_offered(name)
    _clean_over()
    return len(over)


def _clean_over() -> None:
    folders = {path.name: path for path in _folder(0).parent.glob("[0-9]*")}
    active = Export.objects.filter(pk__in=folders, state__in=[JobState.QUEUED, JobState.RUNNING])
    for name in folders.keys() - {str(pk) for pk in active.values_list("pk", flat=True)}:
        shutil.rmtree(folders[name], ignore_errors=True)


def _delete_unless_offered(name: str) -> None:
    if not Export.objects.filter(file=name).exists():
        default_storage.delete(name)


def end_with_texts() -> int:
    """End every file that holds texts of items; it is deleted after the caller's commit. Returns how many.

    One that is being made ends too, with what is written of it.
    """
    streams = [name for name, stream in STREAMS.items() if stream.has_texts]
    exports = Export.objects.filter(stream__in=streams)
    exports.filter(state=JobState.RUNNING).update(state=JobState.FAILED, error="A text was erased meanwhile.")
    ended = exports.exclude(file="").update(expires=timezone.now())
    transaction.on_commit(expire)
    return ended


def _take(export: Export, rows: int) -> bool:
    """Mark the export as running, with `rows` there already. One whose job died again and again is not begun."""
    before = export.manifest
    attempts = 1 if rows > before.get("rows", 0) else before.get("attempts", 0) + 1
    if attempts > ATTEMPTS:
        _fail(export.pk, f"The job ended {ATTEMPTS} times without a row more.")
        return False
    export.state, export.rows, export.manifest = JobState.RUNNING, rows, {"attempts": attempts, "rows": rows}
    export.save(update_fields=["state", "rows", "manifest"])
    return True


def _teller(export_id: int) -> Callable[[int], None]:
    """Notes on the row how many rows are written, not too often."""
    told = time.monotonic()

    def tell(rows: int) -> None:
        nonlocal told
        if time.monotonic() - told >= TOLD_EVERY_S:
            Export.objects.filter(pk=export_id, state=JobState.RUNNING).update(rows=rows)
            told = time.monotonic()

    return tell


def _file_request(export: Export) -> FileRequest:
    return FileRequest(
        stream=get_stream(export.stream),
        format=ExportFormat(export.format),
        window=Window(export.since, export.until),
        privacy=Privacy(Pseudonyms.from_settings(), is_masked=not export.is_unmasked),
    )


def _store(path: Path, digest: str) -> str:
    """The name of the file in the storage; equal files are stored once."""
    name = f"exports/{digest[:2]}/{digest}{path.suffix}"
    if default_storage.exists(name):
        return name
    with path.open("rb") as file:
        return default_storage.save(name, File(file))


def _finish(export: Export, manifest: Manifest, name: str) -> None:
    """Offer the file, unless the export was ended while it was made."""
    now = timezone.now()
    is_offered = Export.objects.filter(pk=export.pk, state=JobState.RUNNING).update(
        state=JobState.DONE,
        error="",
        rows=manifest.rows,
        size=manifest.bytes,
        digest=manifest.sha256,
        file=name,
        manifest=manifest.as_dict(),
        finished=now,
        expires=now + timedelta(days=settings.EXPORT_DAYS),
    )
    if not is_offered:
        _delete_unless_offered(name)
    _clean(export.pk)


def _fail(export_id: int, error: str) -> None:
    Export.objects.filter(pk=export_id).update(state=JobState.FAILED, error=error, finished=timezone.now())
    _clean(export_id)


def _clean(export_id: int) -> None:
    shutil.rmtree(_folder(export_id), ignore_errors=True)


def _folder(export_id: int) -> Path:
    return Path(settings.VAR_DIR) / "exports" / str(export_id)
