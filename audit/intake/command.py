"""What the commands `import_items` and `import_reports` share."""

import time
from argparse import ArgumentParser
from pathlib import Path
from typing import Any, ClassVar

from django.core.management.base import BaseCommand, CommandError

from audit.intake.files import ImportOptions, dry_run, import_stream, register_path
from audit.intake.reading import FileFormat, UnreadableFile
from audit.intake.rows import Problem
from audit.models import ImportFile, ImportKind, JobState

PROGRESS_S = 2.0


class ImportCommand(BaseCommand):
    """Import one file; refused lines go to standard error, and make the exit code 1."""

    kind: ClassVar[ImportKind]
    fields: ClassVar[str]

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "file", type=Path, help=f"JSONL or CSV in UTF-8, also packed with gzip. Fields: {self.fields}."
        )
        parser.add_argument(
            "--format", choices=[one.value for one in FileFormat], default="", help="Default: by the name."
        )
        parser.add_argument("--platform", default="", help="The platform of rows that name none.")
        parser.add_argument("--zone", default="", help="The zone of times without an offset, as in Asia/Shanghai.")
        parser.add_argument("--dry-run", action="store_true", help="Say what would happen, store nothing.")

    def handle(self, *args: Any, **options: Any) -> None:
        path: Path = options["file"]
        try:
            chosen = ImportOptions.make(
                path.name,
                format=options["format"],
                platform=options["platform"],
                zone=options["zone"],
                create_policies=options.get("create_policies", False),
            )
            bad = self._try_out(path, chosen) if options["dry_run"] else self._run(path, chosen)
        except UnreadableFile as error:
            raise CommandError(str(error)) from error
        except OSError as error:
            raise CommandError(f"{path}: {error.strerror}.") from error
        if bad:
            raise CommandError(f"{bad} lines were refused. The others are kept.")

    def _try_out(self, path: Path, options: ImportOptions) -> int:
        with path.open("rb") as file:
            counts, lines = dry_run(self.kind, options, file, path.name)
        self._list(counts.problems)
        self.stdout.write(f"{lines} lines: {counts.created} new, {counts.changed} changed, {counts.same} as before.")
        self.stdout.write("Nothing was stored (--dry-run).")
        return len(counts.problems)

    def _run(self, path: Path, options: ImportOptions) -> int:
        row = register_path(path, self.kind, options)
        if row.line:
            self.stdout.write(f"Going on after line {row.line}.")
        self._listed, self._began, self._shown = 0, time.monotonic(), time.monotonic()
        try:
            with path.open("rb") as file:
                import_stream(row, file, progress=self._progress)
        except KeyboardInterrupt:
            row.refresh_from_db()
            ImportFile.objects.filter(pk=row.pk).update(state=JobState.CANCELLED)
            raise CommandError(f"Stopped after line {row.line}. The same command goes on from there.") from None
        self._list_new(row)
        self.stdout.write(
            f"{row.line} lines: {row.created_count} new, {row.changed_count} changed, {row.same_count} as before, "
            f"{row.bad_count} refused."
        )
        if row.state != JobState.DONE:
            raise CommandError(row.error)
        if row.error:
            self.stdout.write(row.error)
        return row.bad_count

    def _progress(self, row: ImportFile) -> None:
        self._list_new(row)
        now = time.monotonic()
        if now - self._shown >= PROGRESS_S:
            self._shown = now
            share = 100 * row.offset // max(row.size, 1)
            self.stderr.write(f"{row.line} lines, {share} %, {row.line / (now - self._began):.0f} a second")

    def _list_new(self, row: ImportFile) -> None:
        self._list([Problem(line, reason) for line, reason in row.problems[self._listed :]])
        self._listed = len(row.problems)

    def _list(self, problems: list[Problem]) -> None:
        for problem in problems:
            self.stderr.write(f"line {problem.line}: {problem.reason}")
