"""Write the logs into files: `export_logs --since 2026-03-01 --until 2026-04-01 --format csv,parquet --out DIR`."""

import json
from argparse import ArgumentParser
from collections.abc import Iterable
from datetime import date, datetime, time
from pathlib import Path
from typing import Any

from django.conf import settings
from django.contrib.auth.models import User
from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from audit.exports import check_format, check_masks
from audit.logs import (
    STREAMS,
    FileRequest,
    Manifest,
    Privacy,
    Pseudonyms,
    Stream,
    Window,
    finished,
    get_stream,
    write_file,
)
from audit.logs.dictionary import render
from audit.logs.writers import stamp
from audit.models import Export, ExportFormat, JobState
from audit.services.errors import Invalid
from extraction.artifacts import DamagedArtifact

BAD_ARGUMENTS = 2
INTERRUPTED = 130
PLAN = "unfinished.json"
NOT_ENDED = "The command did not end."


class Command(BaseCommand):
    help = (
        "Writes the logs into files, one a log and format, each with a manifest. Interrupted or killed, the same "
        "command goes on: what is written and answers the same request is kept. Exit codes: 0 all written, 1 failed, "
        "2 wrong arguments, 130 interrupted."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        zone = settings.TIME_ZONE
        parser.add_argument(
            "--since", help=f"First moment: 2026-03-01, or with a time; read in {zone} without an offset."
        )
        parser.add_argument("--until", help="First moment that is left out. Default: now.")
        parser.add_argument(
            "--format", default="jsonl", help="csv, jsonl, parquet, trec, md: one or several, with commas."
        )
        parser.add_argument(
            "--stream",
            default="",
            help="Logs, with commas. Default: all that have the format and hold no texts of items.",
        )
        parser.add_argument("--out", type=Path, default=Path(settings.VAR_DIR) / "logs", help="Folder for the files.")
        parser.add_argument("--unmasked", action="store_true", help="Leave contact data in; needs --reason and --user.")
        parser.add_argument("--reason", default="", help="Why the masks are taken off; kept with the export.")
        parser.add_argument("--user", default="", help="Who takes the masks off: a user with the right to.")
        parser.add_argument("--dictionary", action="store_true", help="Print the data dictionary and stop.")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["dictionary"]:
            self.stdout.write(render(list(STREAMS.values())), ending="")
            return
        out: Path = options["out"]
        named = [get_stream(name) for name in _chosen(options["stream"], STREAMS, "log")] if options["stream"] else []
        formats = [ExportFormat(name) for name in _chosen(options["format"], list(ExportFormat), "format")]
        streams = _in_formats(named, formats)
        user = _unmasking_user(options)
        out.mkdir(parents=True, exist_ok=True)
        window = _window(out, options["since"], options["until"])
        privacy = Privacy(Pseudonyms.from_settings(), is_masked=not options["unmasked"])
        wanted = [(stream, kind) for stream in streams for kind in formats if kind in stream.formats]
        requests = [FileRequest(stream, kind, window, privacy) for stream, kind in wanted]
        try:
            for request in requests:
                kept = _begin_log(request, user, options["reason"]) if user is not None else None
                manifest = self._write(request, out)
                if kept is not None:
                    _end_log(kept, manifest)
        except KeyboardInterrupt:
            self.stderr.write("Interrupted. What is written is kept; the same command goes on.")
            raise SystemExit(INTERRUPTED) from None
        except OSError as error:
            raise CommandError(f"{error.filename or out}: {error.strerror}. What is written is kept.") from error
        except DamagedArtifact as error:
            raise CommandError(f"{error} Leave that log out (--stream).") from error
        (out / PLAN).unlink(missing_ok=True)

    def _write(self, request: FileRequest, out: Path) -> Manifest:
        path = out / request.name
        kept = finished(request, path)
        if kept is not None:
            self.stdout.write(f"{path}: kept, {kept.rows:,} rows, made {kept.made}")
            return kept
        manifest = write_file(request, path, progress=lambda rows: self._progress(f"{path}: {rows:,} rows"))
        self._progress("")
        self.stdout.write(f"{path}: {manifest.rows:,} rows, {manifest.bytes:,} bytes, sha256 {manifest.sha256}")
        return manifest

    def _progress(self, words: str) -> None:
        if self.stderr.isatty():
            self.stderr.write(f"\r\033[K{words}", ending="")
            self.stderr.flush()


def _chosen(words: str, known: Iterable[str], what: str) -> list[str]:
    names = list(dict.fromkeys(word.strip() for word in words.split(",") if word.strip()))
    unknown = [name for name in names if name not in list(known)]
    if unknown or not names:
        wrong = f"There is no {what} {', '.join(unknown)}." if unknown else f"Name a {what}."
        raise CommandError(f"{wrong} Known: {', '.join(known)}.", returncode=BAD_ARGUMENTS)
    return names


def _in_formats(named: list[Stream], formats: list[ExportFormat]) -> list[Stream]:
    """The streams that were named, each in a format that it has; where none was, all that hold no texts of items."""
    for stream in named:
        if not set(formats) & set(stream.formats):
            try:
                check_format(stream, formats[0])
            except Invalid as error:
                raise CommandError(error.sentence, returncode=BAD_ARGUMENTS) from error
    return named or [stream for stream in STREAMS.values() if not stream.has_texts]


def _unmasking_user(options: dict[str, Any]) -> User | None:
    """Who takes the masks off; none where they stay on."""
    if not options["unmasked"]:
        return None
    user = User.objects.filter(username=options["user"], is_active=True).first()
    if user is None:
        raise CommandError(
            "Name who takes the masks off: --user NAME. It is kept with the export.", returncode=BAD_ARGUMENTS
        )
    try:
        check_masks(user=user, is_unmasked=True, reason=options["reason"])
    except Invalid as error:
        raise CommandError(f"{error.sentence} (--reason TEXT, --user {user})", returncode=BAD_ARGUMENTS) from error
    return user


def _window(out: Path, since: str | None, until: str | None) -> Window:
    """The window, its end never after now. One that is taken up again keeps the end of the interrupted command."""
    first, last = _moment("--since", since), _moment("--until", until)
    plan = out / PLAN
    asked = {"since": since, "until": until}
    left = json.loads(plan.read_text(encoding="utf-8")) if plan.exists() else {}
    now = timezone.now()
    if left.get("asked") == asked:
        now = datetime.fromisoformat(left["now"])
    plan.write_text(json.dumps({"asked": asked, "now": stamp(now)}), encoding="utf-8")
    window = Window(first, min(last or now, now))
    if window.since is not None and window.until is not None and window.since >= window.until:
        raise CommandError("--since is not before --until (or now): nothing lies between.", returncode=BAD_ARGUMENTS)
    return window


def _moment(option: str, words: str | None) -> datetime | None:
    """A moment as it is written, in the site's zone where it names none."""
    if not words:
        return None
    try:
        day = date.fromisoformat(words) if len(words) <= len("2026-03-01") else None
        moment = datetime.combine(day, time.min) if day else datetime.fromisoformat(words)
    except ValueError:
        raise CommandError(
            f"{option} {words}: write 2026-03-01 or 2026-03-01T09:30, with an offset where the zone is not "
            f"{settings.TIME_ZONE}.",
            returncode=BAD_ARGUMENTS,
        ) from None
    return moment if timezone.is_aware(moment) else timezone.make_aware(moment, timezone.get_default_timezone())


def _begin_log(request: FileRequest, user: User, reason: str) -> Export:
    """Keep who takes the masks off and why, as for an export of the page, before the first row is written.

    Until the end is noted the row says that the file was not finished: nobody but this command goes on with it.
    """
    asked = {
        "user": user,
        "stream": request.stream.name,
        "format": request.format,
        "since": request.window.since,
        "until": request.window.until,
        "is_unmasked": True,
        "reason": reason.strip(),
        "state": JobState.FAILED,
        "error": NOT_ENDED,
    }
    return Export.objects.filter(**asked).first() or Export.objects.create(**asked)


def _end_log(export: Export, manifest: Manifest) -> None:
    """The file itself is with whoever ran the command."""
    Export.objects.filter(pk=export.pk).update(
        state=JobState.DONE,
        error="",
        rows=manifest.rows,
        size=manifest.bytes,
        digest=manifest.sha256,
        manifest=manifest.as_dict(),
        finished=timezone.now(),
    )
