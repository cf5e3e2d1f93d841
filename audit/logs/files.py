"""Write a stream into a file with its manifest, and tell whether a file that is there already answers a request.

A file is written in parts. After each, what was written lies safely on the disk and beside it a note of how far it
goes; a process that is killed loses the part under way, and the next one goes on after the note.
"""

import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from hashlib import file_digest
from pathlib import Path
from typing import Any, BinaryIO

from django.utils import timezone

from audit.logs.dictionary import digest
from audit.logs.masking import MASK_RULES
from audit.logs.privacy import Privacy
from audit.logs.reading import START, Cursor, Stream, Window, snapshot
from audit.logs.writers import encoded, finish, head, stamp
from audit.models import ExportFormat

PART_ROWS = 50_000
"""Rows after which a part is whole: what a killed process loses at most."""


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
    """What stands beside a file: the request, the moment of the snapshot, the columns, and how to check the bytes.

    `parts` has one entry where nothing went wrong. Each later one tells a row (from 0) from which on the rows are as
    they stood at a later moment, because the process that wrote the earlier ones was killed.
    """

    request: dict[str, Any]
    file: str
    made: str
    parts: list[dict[str, Any]]
    columns: list[dict[str, str]]
    rows: int
    bytes: int
    sha256: str

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class _Draft:
    """How far a file is written: `bytes` of it hold `rows` and end at `cursor`; rows above the key `upto` are left
    out, which came after the first moment.
    """

    request: dict[str, Any]
    upto: int
    parts: list[dict[str, Any]]
    cursor: Cursor = START
    rows: int = 0
    bytes: int = 0
    is_whole: bool = False


def write_file(request: FileRequest, path: Path, *, progress: Callable[[int], None] | None = None) -> Manifest:
    """Write the file and then its manifest, or go on with what an earlier process of the same request left.

    What is not finished keeps the ending `.part`. `progress` hears the number of rows written so far, chunk by chunk.
    """
    pieces = _pieces(path)
    draft = _left(request, path)
    if draft is None or not draft.is_whole:
        draft = _write_rows(request, draft, pieces, progress or (lambda _rows: None))
    if pieces.exists():  # else the process was killed between the file and its manifest
        finish(request.format, request.stream, pieces, path)
    manifest = Manifest(
        request=draft.request,
        file=path.name,
        made=draft.parts[0]["made"],
        parts=draft.parts,
        columns=[{"name": one.name, "type": one.type.value, "about": one.about} for one in request.stream.columns],
        rows=draft.rows,
        bytes=path.stat().st_size,
        sha256=_sha256(path),
    )
    _write_json(manifest_path(path), manifest.as_dict())
    _note(pieces).unlink(missing_ok=True)
    return manifest


def written_rows(request: FileRequest, path: Path) -> int:
    """How many rows an unfinished file of this request holds already."""
    draft = _left(request, path)
    return draft.rows if draft is not None else 0


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


def _write_rows(request: FileRequest, left: _Draft | None, pieces: Path, progress: Callable[[int], None]) -> _Draft:
    with snapshot(), pieces.open("r+b" if left else "w+b") as file:
        draft = kept = _taken_up(left) if left else _begun(request, file)
        file.seek(draft.bytes)
        file.truncate()
        chunks = request.stream.chunks(request.privacy, request.window, after=draft.cursor, upto=draft.upto)
        for chunk in chunks:
            file.write(encoded(request.format, request.stream, chunk.rows))
            draft = replace(draft, cursor=chunk.cursor, rows=draft.rows + len(chunk.rows))
            if draft.rows - kept.rows >= PART_ROWS:
                draft = kept = _kept(draft, file, pieces)
            progress(draft.rows)
        return _kept(replace(draft, is_whole=True), file, pieces)


def _begun(request: FileRequest, file: BinaryIO) -> _Draft:
    file.write(head(request.format, request.stream))
    parts = [{"from_row": 0, "made": stamp(timezone.now())}]
    return _Draft(request.described(), request.stream.newest(request.window), parts, bytes=file.tell())


def _taken_up(left: _Draft) -> _Draft:
    return replace(left, parts=[*left.parts, {"from_row": left.rows, "made": stamp(timezone.now())}])


def _kept(draft: _Draft, file: BinaryIO, pieces: Path) -> _Draft:
    """The draft with what lies on the disk now, noted beside it: first the bytes, then the note."""
    file.flush()
    os.fsync(file.fileno())
    draft = replace(draft, bytes=file.tell())
    _write_json(_note(pieces), asdict(draft))
    return draft


def _left(request: FileRequest, path: Path) -> _Draft | None:
    """What an earlier process left of this very request, if it is whole up to its note."""
    pieces = _pieces(path)
    note = _note(pieces)
    if not note.exists():
        return None
    try:
        draft = _Draft(**json.loads(note.read_text(encoding="utf-8")))
    except (ValueError, TypeError):  # of another version of the program
        return None
    if draft.request != request.described():
        return None
    if not pieces.exists():
        return draft if draft.is_whole and path.exists() else None
    return draft if pieces.stat().st_size >= draft.bytes else None


def _pieces(path: Path) -> Path:
    return path.with_name(path.name + ".part")


def _note(pieces: Path) -> Path:
    return pieces.with_name(pieces.name + ".json")


def _write_json(path: Path, value: dict[str, Any]) -> None:
    """Whole or not at all."""
    half = path.with_name(path.name + ".half")
    with half.open("w", encoding="utf-8") as file:
        file.write(json.dumps(value, ensure_ascii=False, indent=2) + "\n")
        file.flush()
        os.fsync(file.fileno())
    half.replace(path)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()
