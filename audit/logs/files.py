"""Write a stream into a file with its manifest, and tell whether a file that is there already answers a request."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime
from hashlib import file_digest
from pathlib import Path
from typing import Any

from django.utils import timezone

from audit.logs.dictionary import digest
from audit.logs.masking import MASK_RULES
from audit.logs.privacy import Privacy
from audit.logs.reading import Stream, Window, snapshot
from audit.logs.writers import open_writer, stamp
from audit.models import ExportFormat


@dataclass(frozen=True)
class FileRequest:
    """What one file is to hold."""

    stream: Stream
    format: ExportFormat
    window: Window
    privacy: Privacy

    @property
    def name(self) -> str:
        return f"{self.stream.name}.v{self.stream.version}.{self.format.value}"

    def described(self) -> dict[str, Any]:
        """The request as its manifest tells it: equal descriptions ask for the same columns, rows and masks."""
        since, until = self.window.since, self.window.until
        return {
            "stream": self.stream.name,
            "schema_version": self.stream.version,
            "dictionary_sha256": digest(self.stream),
            "format": self.format.value,
            "since": stamp(since) if since else None,
            "until": stamp(until) if until else None,
            "masks": MASK_RULES if self.privacy.is_masked else None,
            "pseudonym_key": self.privacy.pseudonyms.key_id,
        }


@dataclass(frozen=True)
class Manifest:
    """What stands beside a file: the request, the moment of the snapshot, and how to check the bytes."""

    request: dict[str, Any]
    file: str
    made: str
    rows: int
    bytes: int
    sha256: str

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def write_file(request: FileRequest, path: Path, *, progress: Callable[[int], None] | None = None) -> Manifest:
    """Write the file and then its manifest; a file that was not finished keeps the ending `.part`.

    `progress` hears the number of rows written so far, chunk by chunk.
    """
    part = path.with_name(path.name + ".part")
    made, rows = _write_rows(request, part, progress or (lambda _rows: None))
    manifest = Manifest(
        request=request.described(),
        file=path.name,
        made=stamp(made),
        rows=rows,
        bytes=part.stat().st_size,
        sha256=_sha256(part),
    )
    part.replace(path)
    manifest_path(path).write_text(
        json.dumps(manifest.as_dict(), ensure_ascii=False, indent=2) + "\n", encoding="utf-8"
    )
    return manifest


def finished(request: FileRequest, path: Path) -> Manifest | None:
    """The manifest of the file at `path`, if that file is whole and answers this very request."""
    if not path.exists() or not manifest_path(path).exists():
        return None
    try:
        manifest = Manifest(**json.loads(manifest_path(path).read_text(encoding="utf-8")))
    except (ValueError, TypeError):
        return None
    is_same = manifest.request == request.described() and manifest.sha256 == _sha256(path)
    return manifest if is_same else None


def manifest_path(path: Path) -> Path:
    return path.with_name(path.name + ".manifest.json")


def _write_rows(request: FileRequest, path: Path, progress: Callable[[int], None]) -> tuple[datetime, int]:
    rows = 0
    with snapshot(), open_writer(request.format, path, request.stream) as write:
        made = timezone.now()
        for chunk in request.stream.chunks(request.privacy, request.window):
            write(chunk)
            rows += len(chunk)
            progress(rows)
    return made, rows


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()
