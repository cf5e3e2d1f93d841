import csv
import json
from datetime import UTC, datetime
from threading import Thread

import pyarrow.parquet as pq
import pytest
from django.conf import settings
from django.db import connection
from django.utils import timezone

from audit.logs import (
    FLAT,
    STREAMS,
    FileRequest,
    Privacy,
    Pseudonyms,
    Window,
    finished,
    get_stream,
    manifest_path,
    write_file,
)
from audit.logs.dictionary import digest, render
from audit.logs.writers import ROW_GROUP, encoded, finish, neutral_cell, parquet_schema, restored_cell
from audit.models import ExportFormat
from tests import factories as make

PRIVACY = Privacy(Pseudonyms("one secret"))
ALWAYS = Window()
NOON = datetime(2026, 3, 12, 12, tzinfo=UTC)


def request(name="flat", kind=ExportFormat.JSONL, window=ALWAYS, privacy=PRIVACY):
    return FileRequest(get_stream(name), kind, window, privacy)


@pytest.fixture
def exposures(db):
    run = make.make_run(
        exploration_query=make.make_exploration(decisions=[make.make_decision(text="假文凭")]).queries.get()
    )
    return [make.make_exposure(run=run, at=NOON) for _number in range(3)]


# --- JSON lines -----------------------------------------------------------------------------------------------------


def test_jsonl_has_one_object_a_row_with_every_column(exposures, tmp_path):
    path = tmp_path / "flat.jsonl"
    write_file(request(), path)
    read = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert [row["exposure_id"] for row in read] == [exposure.pk for exposure in exposures]
    assert list(read[0]) == FLAT.column_names
    assert read[0]["exposed_at"] == "2026-03-12T12:00:00.000000Z"
    assert read[0]["query_text"] == "假文凭"


# --- CSV ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    ["=1+1", "+86", "-1", "@SUM(A1)", "\tx", "\rx", "\nx", "＝1", "＋1", "－1", "＠x", "'quoted", "plain", "证", ""],
)
def test_cell_that_could_be_a_formula_is_neutralised_and_comes_back(text):
    cell = neutral_cell(text)
    assert not cell.startswith(("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠"))
    assert (restored_cell(cell) if cell.startswith("'") else cell) == text


def test_csv_neutralises_formulas_in_texts_that_people_typed(db, tmp_path):
    make.make_complaint(reason='=HYPERLINK("evil")')
    path = tmp_path / "complaints.csv"
    write_file(request("complaints", ExportFormat.CSV), path)
    with path.open(encoding="utf-8", newline="") as file:
        (row,) = csv.DictReader(file)
    assert row["reason"] == '\'=HYPERLINK("evil")'


def test_csv_writes_lists_as_json_and_no_value_as_an_empty_cell(exposures, tmp_path):
    path = tmp_path / "flat.csv"
    write_file(request(kind=ExportFormat.CSV), path)
    with path.open(encoding="utf-8", newline="") as file:
        row = next(csv.DictReader(file))
    assert json.loads(row["shown_ranks"]) == [None]
    assert json.loads(row["decision_kinds"]) == ["own"]
    assert row["verdict"] == ""
    assert row["is_hit"] == "false"
    assert list(row) == FLAT.column_names


# --- Parquet --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in sorted(STREAMS) if ExportFormat.PARQUET in STREAMS[name].formats])
def test_parquet_gives_back_every_row_of_every_stream(exposures, tmp_path, name):
    make.make_judgment(exposure=exposures[0])
    make.make_suggestion("钢印")
    make.make_outbox_event(sequence=1)
    make.make_removal()
    path = tmp_path / "stream.parquet"
    write_file(request(name, ExportFormat.PARQUET), path)
    table = pq.read_table(path)
    assert table.to_pylist() == list(get_stream(name).rows(PRIVACY))
    assert table.schema.equals(parquet_schema(get_stream(name)))


def test_parquet_row_groups_are_bounded(tmp_path):
    stream = get_stream("policies")
    row = dict.fromkeys(stream.column_names) | {"policy_version_id": 1, "at": NOON}
    pieces, path = tmp_path / "pieces", tmp_path / "policies.parquet"
    pieces.write_bytes(13 * encoded(ExportFormat.PARQUET, stream, [row] * 2000))
    finish(ExportFormat.PARQUET, stream, pieces, path)
    file = pq.ParquetFile(path)
    assert [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)] == [ROW_GROUP] * 2 + [6000]


def test_empty_stream_is_a_file_with_columns_and_no_rows(db, tmp_path):
    for kind in FLAT.formats:
        manifest = write_file(request(kind=kind), tmp_path / f"flat.{kind}")
        assert manifest.rows == 0
    assert pq.read_table(tmp_path / "flat.parquet").column_names == FLAT.column_names
    assert (tmp_path / "flat.csv").read_text() == ",".join(FLAT.column_names) + "\n"


# --- manifests ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", FLAT.formats)
def test_same_rows_give_the_same_bytes(exposures, tmp_path, kind):
    first = write_file(request(kind=kind), tmp_path / "first")
    second = write_file(request(kind=kind), tmp_path / "second")
    assert (tmp_path / "first").read_bytes() == (tmp_path / "second").read_bytes()
    assert first.sha256 == second.sha256


def test_manifest_says_what_the_file_holds(exposures, tmp_path):
    asked = request(window=Window(since=NOON))
    path = tmp_path / asked.name
    write_file(asked, path)
    told = json.loads((tmp_path / "flat.v1.jsonl.manifest.json").read_text())
    assert told["request"] == {
        "stream": "flat",
        "schema_version": 1,
        "dictionary_sha256": digest(FLAT),
        "format": "jsonl",
        "since": "2026-03-12T12:00:00.000000Z",
        "until": None,
        "masks": "contact-1",
        "pseudonym_key": PRIVACY.pseudonyms.key_id,
    }
    assert told["columns"][0] == {"name": "exposure_id", "type": "integer", "about": "Exposure; one row each."}
    assert (told["file"], told["rows"], told["bytes"]) == ("flat.v1.jsonl", 3, path.stat().st_size)


def test_finished_file_is_known_again(exposures, tmp_path):
    path = tmp_path / "flat"
    manifest = write_file(request(), path)
    assert finished(request(), path) == manifest


def test_files_of_two_secrets_share_no_pseudonym(exposures):
    def pseudonyms(secret):
        privacy = Privacy(Pseudonyms(secret))
        return {
            value
            for stream in STREAMS.values()
            for row in stream.rows(privacy)
            for value in row.values()
            if isinstance(value, str) and f"-{privacy.pseudonyms.key_id}-" in value
        }

    make.make_judgment(exposure=exposures[0])
    before, after = pseudonyms("one secret"), pseudonyms("a new secret")
    assert len(before) == len(after) > 5
    assert not before & after


@pytest.mark.parametrize(
    "other",
    [
        lambda: request("runs"),
        lambda: request(kind=ExportFormat.CSV),
        lambda: request(window=Window(since=NOON)),
        lambda: request(privacy=Privacy(Pseudonyms("another secret"))),
        lambda: request(privacy=Privacy(Pseudonyms("one secret"), is_masked=False)),
    ],
)
def test_file_does_not_answer_another_request(exposures, tmp_path, other):
    path = tmp_path / "flat"
    write_file(request(), path)
    assert finished(other(), path) is None


def test_changed_or_unfinished_file_is_not_taken_for_whole(exposures, tmp_path):
    path = tmp_path / "flat"
    assert finished(request(), path) is None
    write_file(request(), path)
    manifest_path(path).write_text("{}")
    assert finished(request(), path) is None
    write_file(request(), path)
    path.write_text("")
    assert finished(request(), path) is None


def test_progress_hears_the_rows(exposures, tmp_path):
    heard = []
    write_file(request(), tmp_path / "flat", progress=heard.append)
    assert heard == [3]


# --- one moment -----------------------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_file_shows_one_moment_though_others_write_meanwhile(tmp_path):
    run = make.make_run(exploration_query=make.make_exploration(decisions=[make.make_decision()]).queries.get())
    for _number in range(3):
        make.make_exposure(run=run)
    before = timezone.now()
    written = write_file(request(), tmp_path / "flat", progress=lambda _rows: in_another_connection(run))
    assert written.rows == 3
    assert written.made >= before.isoformat()[:19]
    assert write_file(request(), tmp_path / "flat").rows == 4


def in_another_connection(run):
    def write():
        if run.exposures.count() == 3:
            make.make_exposure(run=run)
        connection.close()

    thread = Thread(target=write)
    thread.start()
    thread.join()


# --- the dictionary -------------------------------------------------------------------------------------------------


def test_dictionary_in_docs_is_the_declarations():
    written = (settings.BASE_DIR / "docs" / "data_dictionary.md").read_text(encoding="utf-8")
    assert written == render(list(STREAMS.values())), (
        "run: ./qexplorer export_logs --dictionary > docs/data_dictionary.md"
    )
