"""What learning makes, in Django's storage under its digest: single files, and folders with a manifest.

No path stands in a row: a worker on another machine finds everything by digest, checks each file against the manifest
and keeps a copy of its own, so that a model is fetched once. Only weights, configuration and text are let in: a pickle
could run code, so a folder that holds one is refused on both ways.

Equal files are stored once and last. What ends some day (checkpoints) has a `place` of its own, so that deleting it
takes no file from anything else.
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from django.conf import settings
from django.core.files.base import ContentFile, File
from django.core.files.storage import default_storage

SAFE = {".safetensors", ".json", ".jsonl", ".txt", ".jinja", ".md", ".model", ".yaml"}
CHECKPOINT = SAFE | {".pt", ".pth", ".bin"}
"""A checkpoint of our own also holds the optimizer's state, which only our own trainer reads back."""
LASTING = "artifacts"
_CHUNK = 1 << 20


class DamagedArtifact(Exception):
    """What is stored is missing, or is not what its digest names."""


class UnsafeArtifact(Exception):
    """A folder holds a file of a kind that could run code when it is read."""


def store_artifact(data: bytes, digest: str, *, place: str = LASTING) -> None:
    """Put `data` under its digest; putting it twice does no harm."""
    name = artifact_name(digest, place=place)
    if not default_storage.exists(name):
        default_storage.save(name, ContentFile(data))


def artifact_name(digest: str, *, place: str = LASTING) -> str:
    return f"{place}/{digest[:2]}/{digest}"


def store_file(path: Path, *, place: str = LASTING) -> str:
    """Store one file under its SHA-256, which is returned."""
    digest = _sha256(path)
    name = artifact_name(digest, place=place)
    if not default_storage.exists(name):
        with path.open("rb") as file:
            default_storage.save(name, File(file))
    return digest


def open_artifact(digest: str, *, place: str = LASTING) -> "File[bytes]":
    """The stored file, to read in binary. Raises DamagedArtifact where it is missing."""
    try:
        return default_storage.open(artifact_name(digest, place=place))
    except OSError as error:
        raise DamagedArtifact(f"{digest} is not in the storage.") from error


def store_folder(folder: Path, *, allowed: set[str] = SAFE, place: str = LASTING) -> str:
    """Store every file of a folder and its manifest {relative name: digest}; the manifest's digest names the folder.

    Equal folders have equal digests. Raises UnsafeArtifact.
    """
    manifest = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            name = path.relative_to(folder).as_posix()
            _check_name(name, allowed)
            manifest[name] = store_file(path, place=place)
    data = json.dumps(manifest, sort_keys=True, separators=(",", ":")).encode()
    digest = hashlib.sha256(data).hexdigest()
    store_artifact(data, digest, place=place)
    return digest


def delete_place(place: str) -> None:
    """Delete everything in a place of its own (never LASTING); one that is gone does no harm."""
    if place.partition("/")[0] == LASTING:
        raise ValueError(f"{place} holds what lasts.")
    try:
        folders, files = default_storage.listdir(place)
    except FileNotFoundError:
        return
    for folder in folders:
        delete_place(f"{place}/{folder}")
    for name in files:
        default_storage.delete(f"{place}/{name}")
    default_storage.delete(place)  # the empty folder, where the storage has folders


def fetch_folder(digest: str, *, allowed: set[str] = SAFE, place: str = LASTING) -> Path:
    """The folder of that digest on this machine's disk, fetched and checked file by file where it is not there yet.

    Raises DamagedArtifact, UnsafeArtifact.
    """
    here: Path = settings.ARTIFACT_CACHE / digest
    if here.is_dir():
        return here
    here.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(prefix=f".{digest[:12]}-", dir=here.parent))
    try:
        for name, file_digest in _manifest(digest, place).items():
            _check_name(name, allowed)
            fetch_file(file_digest, beside / name, place=place)
        try:
            beside.replace(here)
        except OSError:  # another process fetched it first
            if not here.is_dir():
                raise
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return here


def fetch_file(digest: str, here: Path, *, place: str = LASTING) -> None:
    """Write one stored file to `here`, checked. Raises DamagedArtifact."""
    here.parent.mkdir(parents=True, exist_ok=True)
    found = hashlib.sha256()
    with open_artifact(digest, place=place) as source, here.open("wb") as target:
        for chunk in _chunks(source):
            found.update(chunk)
            target.write(chunk)
        target.flush()
        os.fsync(target.fileno())
    if found.hexdigest() != digest:
        raise DamagedArtifact(f"The stored file {digest} is not what its digest names.")


def _manifest(digest: str, place: str) -> dict[str, str]:
    with open_artifact(digest, place=place) as file:
        data: bytes = file.read()
    if hashlib.sha256(data).hexdigest() != digest:
        raise DamagedArtifact(f"The manifest {digest} was changed after it was stored.")
    manifest: dict[str, str] = json.loads(data)
    return manifest


def _check_name(name: str, allowed: set[str]) -> None:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        raise UnsafeArtifact(f"{name!r} leads out of its folder.")
    if path.suffix not in allowed:
        raise UnsafeArtifact(f"{name!r} is none of {', '.join(sorted(allowed))}: it could run code when it is read.")


def _chunks(file: "File[bytes]") -> Iterator[bytes]:
    while chunk := file.read(_CHUNK):
        yield chunk


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
