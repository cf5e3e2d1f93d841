import json
from datetime import UTC, datetime, timedelta
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.test import override_settings
from django.utils import timezone

from audit.logs import STREAMS
from audit.management.commands import export_logs
from audit.models import Export, JobState
from tests import factories as make

pytestmark = pytest.mark.django_db

NOON = datetime(2026, 3, 12, 12, tzinfo=UTC)


def export(out, **options):
    words = StringIO()
    call_command("export_logs", out=out, stdout=words, stderr=StringIO(), **options)
    return words.getvalue()


def lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture
def exposure():
    return make.make_exposure(at=NOON)


def test_every_log_is_written_with_its_manifest(exposure, tmp_path):
    export(tmp_path, format="jsonl,trec")
    names = {path.name for path in tmp_path.iterdir()}
    files = {
        f"{name}.v{stream.version}.{'trec' if name.startswith('trec') else 'jsonl'}"
        for name, stream in STREAMS.items()
        if not stream.has_texts
    }
    assert names == files | {f"{name}.manifest.json" for name in files}


def test_texts_of_items_leave_only_by_name(tmp_path):
    export(tmp_path, stream="sft_rows")
    assert [path.name for path in tmp_path.glob("*.jsonl")] == ["sft_rows.v1.jsonl"]


def test_chosen_logs_and_formats_are_written(exposure, tmp_path):
    export(tmp_path, stream="flat,runs", format="csv,parquet")
    names = {path.name for path in tmp_path.iterdir() if not path.name.endswith(".manifest.json")}
    assert names == {"flat.v1.csv", "flat.v1.parquet", "runs.v1.csv", "runs.v1.parquet"}


def test_finished_file_is_kept_and_an_unfinished_one_is_written_again(exposure, tmp_path):
    window = {"since": "2026-03-01", "until": "2026-04-01", "stream": "flat,runs"}
    export(tmp_path, **window)
    (tmp_path / "runs.v1.jsonl.manifest.json").unlink()
    said = export(tmp_path, **window)
    assert "flat.v1.jsonl: kept, 1 rows" in said
    assert "runs.v1.jsonl: 0 rows" in said


def test_interrupted_command_goes_on_with_the_same_end(exposure, tmp_path, monkeypatch):
    write = export_logs.write_file

    def interrupted(request, path, **options):
        if request.stream.name == "runs":
            raise KeyboardInterrupt
        return write(request, path, **options)

    monkeypatch.setattr(export_logs, "write_file", interrupted)
    with pytest.raises(SystemExit) as stopped:
        export(tmp_path, stream="flat,runs")
    assert stopped.value.code == 130
    monkeypatch.setattr(export_logs, "write_file", write)
    make.make_exposure()
    assert "flat.v1.jsonl: kept, 1 rows" in export(tmp_path, stream="flat,runs")


def test_finished_command_without_an_end_starts_anew(exposure, tmp_path):
    export(tmp_path, stream="flat")
    make.make_exposure()
    assert "flat.v1.jsonl: 2 rows" in export(tmp_path, stream="flat")


@override_settings(TIME_ZONE="Asia/Shanghai")
@pytest.mark.parametrize(
    ("at", "inside"),
    [
        (datetime(2026, 3, 11, 16, tzinfo=UTC), True),
        (datetime(2026, 3, 11, 15, 59, 59, tzinfo=UTC), False),
        (datetime(2026, 3, 12, 15, 59, 59, tzinfo=UTC), True),
        (datetime(2026, 3, 12, 16, tzinfo=UTC), False),
    ],
)
def test_date_without_a_zone_is_read_in_the_sites(tmp_path, at, inside):
    make.make_exposure(at=at)
    export(tmp_path, stream="flat", since="2026-03-12", until="2026-03-13")
    assert len(lines(tmp_path / "flat.v1.jsonl")) == inside


def test_moment_with_an_offset_is_read_as_it_says(tmp_path, exposure):
    export(tmp_path, stream="flat", since="2026-03-12T20:00:00+08:00", until="2026-03-12T20:00:01+08:00")
    assert len(lines(tmp_path / "flat.v1.jsonl")) == 1


def test_end_is_never_after_now(tmp_path, exposure):
    export(tmp_path, stream="flat", until=(timezone.now() + timedelta(days=3)).isoformat())
    until = json.loads((tmp_path / "flat.v1.jsonl.manifest.json").read_text())["request"]["until"]
    assert until <= timezone.now().isoformat()


@pytest.mark.parametrize(
    "options",
    [
        {"stream": "flat,nonsense"},
        {"stream": ","},
        {"stream": "flat", "format": "trec"},
        {"format": "xlsx"},
        {"since": "12/03/2026"},
        {"until": "2026-03-12T25:00"},
        {"since": "2026-03-12", "until": "2026-03-12"},
        {"unmasked": True, "reason": "law"},
        {"unmasked": True, "reason": "law", "user": "nobody"},
    ],
)
def test_wrong_arguments_are_refused_with_code_2(tmp_path, options):
    with pytest.raises(CommandError) as refused:
        export(tmp_path, **options)
    assert refused.value.returncode == 2


def test_masks_come_off_for_a_person_with_the_right_and_a_reason_and_that_is_kept(tmp_path, admin):
    make.make_run(exploration_query=make.make_exploration(decisions=[make.make_decision(text="vx12345")]).queries.get())
    export(tmp_path, stream="runs", unmasked=True, reason="a court asks", user=admin.username)
    assert lines(tmp_path / "runs.v1.jsonl")[0]["query_text"] == "vx12345"
    kept = Export.objects.get()
    assert (kept.user, kept.reason, kept.is_unmasked, kept.rows, kept.stream) == (
        admin,
        "a court asks",
        True,
        1,
        "runs",
    )


def test_page_tells_that_a_command_took_the_masks_off(tmp_path, login, admin):
    export(tmp_path, stream="runs", unmasked=True, reason="a court asks", user=admin.username)
    page = login(admin).get("/exports/").content.decode()
    assert "a court asks" in page
    assert "Handed over at once" in page
    assert "days of this file" not in page


def test_masks_that_come_off_are_kept_though_the_command_does_not_end(tmp_path, admin, monkeypatch):
    def die(*args, **kwargs):
        raise KeyboardInterrupt

    options = {"stream": "runs", "unmasked": True, "reason": "a court asks", "user": admin.username}
    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr(export_logs, "write_file", die)
        export(tmp_path, **options)
    assert (Export.objects.get().reason, Export.objects.get().state) == ("a court asks", JobState.FAILED)
    export(tmp_path, **options)
    assert Export.objects.get().state == JobState.DONE


@pytest.mark.parametrize("reason", ["", "  "])
def test_masks_stay_on_without_a_reason(tmp_path, admin, reason):
    with pytest.raises(CommandError, match="Say why"):
        export(tmp_path, unmasked=True, reason=reason, user=admin.username)
    assert not Export.objects.exists()


def test_masks_stay_on_for_a_person_without_the_right(tmp_path, researcher):
    with pytest.raises(CommandError, match="may not"):
        export(tmp_path, unmasked=True, reason="curious", user=researcher.username)


def test_folder_that_cannot_be_written_is_said(tmp_path, exposure):
    (tmp_path / "flat.v1.jsonl.part").mkdir()
    with pytest.raises(CommandError, match="Is a directory"):
        export(tmp_path, stream="flat")


def test_dictionary_is_printed(tmp_path):
    assert "## flat, schema version 1" in export(tmp_path, dictionary=True)
