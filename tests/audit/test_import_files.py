"""Whole files: preview, progress, stop and go on; and the commands."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.management import CommandError, call_command

from audit.intake import ImportOptions, import_stream, preview, register_path, register_upload, run_import, start_upload
from audit.intake import files as import_files
from audit.models import Complaint, ImportFile, ImportKind, Item, JobState, Report
from extraction.search import SearchRequest, get_engine
from extraction.text import MatchMode
from tests.factories import make_item, make_policy

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _own_index(settings: Any, tmp_path: Path) -> None:
    settings.SEARCH_FILE = tmp_path / "search.sqlite3"
    settings.MEDIA_ROOT = tmp_path
    get_engine().rebuild([])


def line(external_id: str, **changes: Any) -> str:
    values = {"external_id": external_id, "text": f"cheap diploma {external_id}", "created": "2026-05-04T00:00:00Z"}
    return json.dumps(values | changes)


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    def write(*lines: str, name: str = "items.jsonl") -> Path:
        path = tmp_path / name
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return path

    return write


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(import_files, "CHUNK", 2)


def run(path: Path, **kwargs: Any) -> ImportFile:
    row = register_path(path, ImportKind.ITEMS, ImportOptions.make(path.name, platform="forum"))
    with path.open("rb") as file:
        return import_stream(row, file, **kwargs)


def test_items_are_stored_indexed_and_counted(write: Callable[..., Path], small_chunks: None) -> None:
    row = run(write(line("a"), "broken", line("b"), line("a"), line("c")))
    assert (row.state, row.line, row.created_count, row.bad_count) == (JobState.DONE, 5, 3, 2)
    assert [number for number, _reason in row.problems] == [2, 4]
    page = get_engine().search(SearchRequest("diploma", MatchMode.PHRASE))
    assert page.counts.live == 3
    assert not Item.objects.to_index().exists()


def test_an_import_that_stopped_goes_on_and_ends_as_if_it_had_not(
    write: Callable[..., Path], small_chunks: None
) -> None:
    path = write(line("a"), line("b"), line("c"), line("a"), line("d"))

    def stop(row: ImportFile) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(path, progress=stop)
    stopped = ImportFile.objects.get()
    assert (stopped.line, stopped.created_count, Item.objects.count()) == (2, 2, 2)
    row = run(path)
    assert ImportFile.objects.count() == 1
    assert (row.state, row.created_count, row.same_count, row.bad_count) == (JobState.DONE, 4, 0, 1)
    assert "number 1" in row.problems[0][1]


def test_a_file_that_was_imported_is_imported_anew_and_changes_nothing(write: Callable[..., Path]) -> None:
    path = write(line("a"))
    run(path)
    row = run(path)
    assert (ImportFile.objects.count(), row.created_count, row.same_count) == (2, 0, 1)


def test_other_options_are_another_import(write: Callable[..., Path]) -> None:
    path = write(line("a"))
    first = register_path(path, ImportKind.ITEMS, ImportOptions.make(path.name, platform="forum"))
    second = register_path(path, ImportKind.ITEMS, ImportOptions.make(path.name, platform="chat"))
    assert first.pk != second.pk


def test_a_cancelled_import_stops_and_keeps_what_is_stored(write: Callable[..., Path], small_chunks: None) -> None:
    def cancel(row: ImportFile) -> None:
        ImportFile.objects.update(state=JobState.CANCELLED)

    row = run(write(*[line(str(number)) for number in range(6)]), progress=cancel)
    assert (row.state, row.line, Item.objects.count()) == (JobState.CANCELLED, 2, 2)


def test_a_file_of_no_use_fails_with_its_reason(tmp_path: Path) -> None:
    path = tmp_path / "items.csv"
    path.write_text("a,b\n")
    row = run(path)
    assert row.state == JobState.FAILED
    assert "lacks" in row.error


def test_engine_trouble_stores_everything_and_says_so(
    write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from extraction.errors import SearchUnavailable

    def down(self: object, documents: object) -> None:
        raise SearchUnavailable("no answer")

    monkeypatch.setattr(type(get_engine()), "put", down)
    row = run(write(line("a")))
    assert (row.state, Item.objects.to_index().count()) == (JobState.DONE, 1)
    assert "Indexing goes on later" in row.error


def test_only_the_first_thousand_problems_are_kept(write: Callable[..., Path]) -> None:
    row = run(write(*["broken"] * 1100))
    assert (row.bad_count, len(row.problems)) == (1100, 1000)


def test_an_upload_is_a_draft_until_it_is_started_once() -> None:
    upload = SimpleUploadedFile("items.jsonl", (line("a") + "\n").encode())
    row = register_upload(upload, ImportKind.ITEMS, options=ImportOptions.make("items.jsonl", platform="forum"))
    assert (row.state, row.size) == (JobState.DRAFT, upload.size)
    run_import(row.pk)
    assert not Item.objects.exists()
    assert [start_upload(row), start_upload(row)] == [True, False]


def test_a_started_upload_is_imported_once_by_the_job() -> None:
    upload = SimpleUploadedFile("items.jsonl", (line("a") + "\n").encode())
    row = register_upload(upload, ImportKind.ITEMS, options=ImportOptions.make("items.jsonl", platform="forum"))
    start_upload(row)
    run_import(row.pk)
    run_import(row.pk)
    row.refresh_from_db()
    assert (row.state, row.created_count, row.same_count) == (JobState.DONE, 1, 0)


def test_the_job_leaves_the_import_of_a_command_alone(write: Callable[..., Path]) -> None:
    path = write(line("a"))
    row = register_path(path, ImportKind.ITEMS, ImportOptions.make(path.name))
    run_import(row.pk)
    row.refresh_from_db()
    assert row.state == JobState.QUEUED


def test_a_preview_shows_rows_problems_and_ignored_names_and_stores_nothing() -> None:
    lines = [line("a", txet="?"), "broken", line("a"), *[line(str(number)) for number in range(300)]]
    shown = preview(
        io.BytesIO("\n".join(lines).encode()),
        ImportKind.ITEMS,
        name="items.jsonl",
        options=ImportOptions.make("items.jsonl", platform="forum"),
    )
    assert (len(shown.rows), shown.ignored, shown.lines) == (10, ["txet"], 200)
    assert [problem.line for problem in shown.problems] == [2, 3]
    assert not Item.objects.exists()


def test_an_unknown_zone_is_refused() -> None:
    from audit.intake import UnreadableFile

    with pytest.raises(UnreadableFile, match="Mars/Olympus"):
        ImportOptions.make("items.jsonl", zone="Mars/Olympus")


def test_the_command_lists_bad_lines_and_ends_with_an_error(write: Callable[..., Path]) -> None:
    out, err = io.StringIO(), io.StringIO()
    with pytest.raises(CommandError, match="1 lines were refused"):
        call_command("import_items", write(line("a"), "broken"), platform="forum", stdout=out, stderr=err)
    assert "line 2: not JSON" in err.getvalue()
    assert "1 new" in out.getvalue()


def test_the_command_ends_well_where_every_line_is_good(write: Callable[..., Path]) -> None:
    out = io.StringIO()
    call_command("import_items", write(line("a")), platform="forum", stdout=out)
    assert "1 lines: 1 new, 0 changed, 0 as before, 0 refused." in out.getvalue()


def test_a_dry_run_says_what_would_happen_and_stores_nothing(write: Callable[..., Path]) -> None:
    make_item(platform="forum", external_id="b")
    out = io.StringIO()
    call_command("import_items", write(line("a"), line("b")), platform="forum", dry_run=True, stdout=out)
    assert "1 new, 1 changed" in out.getvalue()
    assert (Item.objects.count(), ImportFile.objects.count()) == (1, 0)


def test_a_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match=r"No such file"):
        call_command("import_items", tmp_path / "nothing.jsonl")


def test_reports_are_imported_from_csv(write: Callable[..., Path]) -> None:
    make_policy("spam")
    make_item(platform="forum", external_id="a")
    rows = [
        "external_id,item_external_id,policy,at,reason",
        "c1,a,spam,2026-05-04 08:00,ad",
        "c2,a,nowhere,2026-05-04 08:00,",
    ]
    out, err = io.StringIO(), io.StringIO()
    with pytest.raises(CommandError):
        call_command(
            "import_reports",
            write(*rows, name="complaints.csv"),
            platform="forum",
            zone="Asia/Shanghai",
            stdout=out,
            stderr=err,
        )
    assert Complaint.objects.get().at.isoformat() == "2026-05-04T00:00:00+00:00"
    assert "line 3: there is no policy with the key nowhere." in err.getvalue()
    assert Report.objects.count() == 1


def test_reports_create_their_policies_when_asked_to(write: Callable[..., Path]) -> None:
    make_item(platform="forum", external_id="a")
    row = '{"external_id": "c", "item_external_id": "a", "policy": "fake-jobs", "at": "2026-05-04T00:00:00Z"}'
    call_command(
        "import_reports", write(row, name="c.jsonl"), platform="forum", create_policies=True, stdout=io.StringIO()
    )
    assert Report.objects.get().policy.key == "fake-jobs"
