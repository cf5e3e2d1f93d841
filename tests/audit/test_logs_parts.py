"""A file is written in parts: whoever comes after a process that died goes on, and the bytes are those of one run."""

import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from functools import partialmethod
from pathlib import Path

import pytest

from audit.logs import FileRequest, Privacy, Pseudonyms, Window, files, finished, get_stream, write_file, written_rows
from audit.logs.reading import Stream
from audit.logs.trec import TrecStream
from audit.models import ExportFormat
from tests import factories as make

PRIVACY = Privacy(Pseudonyms("one secret"))
ROOT = Path(__file__).resolve().parents[2]
KINDS = [*get_stream("flat").formats, ExportFormat.TREC]
PART = 4
NOON = datetime(2026, 3, 12, 12, tzinfo=UTC)


class Died(Exception):
    """Stands for a process that ends here."""


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    """Chunks of one row or run, parts of four rows."""
    monkeypatch.setattr(files, "PART_ROWS", PART)
    for kind in (Stream, TrecStream):
        monkeypatch.setattr(kind, "chunks", partialmethod(kind.chunks, size=1))


@pytest.fixture
def exposures(db):
    return [make.make_exposure() for _number in range(10)]


def request(kind=ExportFormat.JSONL, **kwargs):
    stream = get_stream("trec_run" if kind == ExportFormat.TREC else "flat")
    return FileRequest(**({"stream": stream, "format": kind, "window": Window(), "privacy": PRIVACY} | kwargs))


def die_at(row):
    def progress(rows):
        if rows == row:
            raise Died

    return progress


def left(path, kind=ExportFormat.JSONL, row=7):
    """What a process leaves that died after this row."""
    with pytest.raises(Died):
        write_file(request(kind), path, progress=die_at(row))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("row", [1, 4, 7, 10])
def test_interrupted_file_ends_with_the_bytes_of_an_unbroken_one(exposures, tmp_path, kind, row):
    whole = write_file(request(kind), tmp_path / "whole")
    left(tmp_path / "broken", kind, row)
    resumed = write_file(request(kind), tmp_path / "broken")
    assert (tmp_path / "broken").read_bytes() == (tmp_path / "whole").read_bytes()
    assert (resumed.sha256, resumed.rows) == (whole.sha256, 10)
    assert finished(request(kind), tmp_path / "broken") == resumed


def test_at_most_one_part_is_lost(exposures, tmp_path):
    left(tmp_path / "flat", row=7)
    assert written_rows(request(), tmp_path / "flat") == 4


def test_rows_that_are_there_are_not_read_again(exposures, tmp_path):
    left(tmp_path / "flat", row=9)
    heard = []
    write_file(request(), tmp_path / "flat", progress=heard.append)
    assert heard == [9, 10]


def test_manifest_tells_the_moment_of_each_part(exposures, tmp_path):
    assert [part["from_row"] for part in write_file(request(), tmp_path / "whole").parts] == [0]
    left(tmp_path / "broken", row=7)
    parts = write_file(request(), tmp_path / "broken").parts
    assert [part["from_row"] for part in parts] == [0, 4]
    assert parts[0]["made"] < parts[1]["made"]


def test_rows_that_came_after_the_first_moment_are_left_out(exposures, tmp_path):
    left(tmp_path / "flat")
    make.make_exposure()
    assert write_file(request(), tmp_path / "flat").rows == 10


def test_torn_end_is_cut_off(exposures, tmp_path):
    whole = write_file(request(), tmp_path / "whole")
    left(tmp_path / "flat")
    with (tmp_path / "flat.part").open("ab") as file:
        file.write(b'{"exposure_id": 5, "expo')
    assert write_file(request(), tmp_path / "flat").sha256 == whole.sha256


@pytest.mark.parametrize("kind", [ExportFormat.JSONL, ExportFormat.PARQUET])
def test_file_that_lacks_only_its_manifest_gets_one(exposures, tmp_path, kind, monkeypatch):
    whole = write_file(request(kind), tmp_path / "whole")

    def die(_path):
        raise Died

    with monkeypatch.context() as patch, pytest.raises(Died):
        patch.setattr(files, "_sha256", die)
        write_file(request(kind), tmp_path / "flat")
    assert finished(request(kind), tmp_path / "flat") is None
    assert write_file(request(kind), tmp_path / "flat").sha256 == whole.sha256


@pytest.mark.parametrize(
    "other",
    [
        {"window": Window(since=NOON)},
        {"privacy": Privacy(Pseudonyms("a new secret"))},
        {"privacy": Privacy(Pseudonyms("one secret"), is_masked=False)},
    ],
)
def test_part_of_another_request_is_begun_anew(exposures, tmp_path, other):
    left(tmp_path / "flat")
    asked = request(**other)
    assert written_rows(asked, tmp_path / "flat") == 0
    manifest = write_file(asked, tmp_path / "flat")
    assert (manifest.request, len(manifest.parts)) == (asked.described(), 1)


def test_note_of_another_version_of_the_program_is_not_understood(exposures, tmp_path):
    left(tmp_path / "flat")
    note = tmp_path / "flat.part.json"
    note.write_text(json.dumps(json.loads(note.read_text()) | {"new": 1}))
    assert len(write_file(request(), tmp_path / "flat").parts) == 1


def test_nothing_but_the_file_and_its_manifest_is_left(exposures, tmp_path):
    left(tmp_path / "flat")
    write_file(request(), tmp_path / "flat")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["flat", "flat.manifest.json"]


# --- killed ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A database of its own with 400 exposures, for processes of their own."""
    folder = tmp_path_factory.mktemp("site")
    environment = os.environ | {"QX_VAR_DIR": str(folder), "QX_SECRET_KEY": "test", "DATABASE_URL": ""}
    for command in (["manage.py", "migrate", "-v0"], ["-m", "tests.benchmarks.export_memory", "fill", "400"]):
        subprocess.run([sys.executable, *command], cwd=ROOT, env=environment, check=True)
    return environment


def process(site, *arguments):
    """A process of tests.audit.killed_export; its exit code and last line."""
    command = [sys.executable, "-m", "tests.audit.killed_export", *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, env=site, stdout=subprocess.PIPE, text=True)
    return done.returncode, done.stdout.strip()


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_killed_process_is_followed_by_one_that_goes_on(site, tmp_path, kind):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert process(site, "write", kind, whole)[0] == 0
    assert process(site, "write", kind, broken, 250)[0] == -9
    assert process(site, "write", kind, broken, 350)[0] == -9
    assert process(site, "write", kind, broken)[0] == 0
    assert broken.read_bytes() == whole.read_bytes()
    parts = json.loads(broken.with_name("broken.manifest.json").read_text())["parts"]
    assert len(parts) == 3


@pytest.mark.slow
def test_export_of_the_page_whose_worker_is_killed_goes_on(site):
    code, _said = process(site, "job", 250)
    assert code == -9
    code, said = process(site, "job", "again")
    told = json.loads(said)
    assert (code, told["state"], told["rows"], told["left"]) == (0, "done", 400, [])
    assert [part["from_row"] for part in told["parts"]] == [0, 200]
    assert told["digest"] == told["unbroken"]
