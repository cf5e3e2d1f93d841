import hashlib
import json
from datetime import UTC, datetime, timedelta

import pytest
from django.core.files.storage import default_storage
from django.test import override_settings
from django.urls import reverse
from django.utils import timezone
from rq.timeouts import JobTimeoutException

from audit import exports
from audit.exports import expire, request_export, run_export
from audit.logs.reading import aside
from audit.models import Export, ExportFormat, JobState
from audit.services import AlreadyRecorded, Invalid
from tests import factories as make

pytestmark = pytest.mark.django_db

PAGE = "/exports/"
NOON = datetime(2026, 3, 12, 12, tzinfo=UTC)


@pytest.fixture(autouse=True)
def storage(tmp_path):
    with override_settings(MEDIA_ROOT=tmp_path / "media", VAR_DIR=tmp_path / "var"):
        yield


def ask(user, **kwargs):
    values = {"stream": "flat", "format": ExportFormat.CSV, "key": make.make_key()}
    return request_export(user=user, **(values | kwargs))


@pytest.fixture
def made(researcher):
    """An export whose file is there."""
    make.make_exposure(at=NOON)
    return run(ask(researcher))


def run(export):
    run_export(export.pk)
    export.refresh_from_db()
    return export


def post(client, **data):
    return client.post(
        reverse("audit:export-create"), {"key": make.make_key(), "stream": "flat", "format": "csv"} | data
    )


# --- asking ---------------------------------------------------------------------------------------------------------


def test_request_is_a_row_and_a_job_after_commit(researcher, monkeypatch, django_capture_on_commit_callbacks):
    queued = []
    monkeypatch.setattr("audit.queueing.enqueue", lambda *args, **kwargs: queued.append((args, kwargs)))
    with django_capture_on_commit_callbacks(execute=True):
        export = ask(researcher)
        assert not queued
    assert export.state == JobState.QUEUED
    assert queued == [(("data", "audit.jobs.run_export", export.pk), {"job_id": f"export-{export.pk}"})]


def test_same_request_twice_is_recorded_once(researcher):
    key = make.make_key()
    ask(researcher, key=key)
    with pytest.raises(AlreadyRecorded):
        ask(researcher, key=key)
    assert Export.objects.count() == 1


@pytest.mark.parametrize("wrong", [{"stream": "nonsense"}, {"since": NOON, "until": NOON}, {"is_unmasked": True}])
def test_request_that_cannot_be_answered_is_refused(admin, wrong):
    with pytest.raises(Invalid):
        ask(admin, **wrong)


def test_masks_come_off_only_by_right(researcher, admin):
    with pytest.raises(Invalid):
        ask(researcher, is_unmasked=True, reason="curious")
    export = ask(admin, is_unmasked=True, reason="a court asks")
    assert (export.is_unmasked, export.reason) == (True, "a court asks")


# --- the job --------------------------------------------------------------------------------------------------------


def test_job_stores_the_file_under_its_digest_with_what_the_page_tells(made):
    data = made.file.read()
    assert made.state == JobState.DONE
    assert made.digest == hashlib.sha256(data).hexdigest()
    assert made.file.name == f"exports/{made.digest[:2]}/{made.digest}.csv"
    assert (made.rows, made.size, made.manifest["rows"]) == (1, len(data), 1)
    assert made.expires - made.finished == timedelta(days=7)


def test_window_and_masks_of_the_request_hold(admin):
    make.make_run(
        exploration_query=make.make_exploration(decisions=[make.make_decision(text="vx12345")]).queries.get(), at=NOON
    )
    masked = run(ask(admin, stream="runs", format=ExportFormat.JSONL, since=NOON))
    bare = run(ask(admin, stream="runs", format=ExportFormat.JSONL, since=NOON, is_unmasked=True, reason="law"))
    after = run(ask(admin, stream="runs", format=ExportFormat.JSONL, since=NOON + timedelta(seconds=1)))
    assert json.loads(masked.file.read())["query_text"] == "vx‹handle›"
    assert json.loads(bare.file.read())["query_text"] == "vx12345"
    assert after.rows == 0


def test_job_that_runs_twice_changes_nothing(made):
    before = Export.objects.values().get()
    run_export(made.pk)
    assert Export.objects.values().get() == before


def test_job_whose_worker_died_is_begun_again(researcher):
    export = ask(researcher)
    Export.objects.filter(pk=export.pk).update(state=JobState.RUNNING, manifest={"attempts": 1})
    assert run(export).state == JobState.DONE


def test_job_that_dies_again_and_again_without_a_row_more_fails(researcher):
    export = ask(researcher)
    Export.objects.filter(pk=export.pk).update(state=JobState.RUNNING, manifest={"attempts": 3})
    assert run(export).state == JobState.FAILED


def test_job_that_dies_again_and_again_but_gets_further_goes_on(researcher, monkeypatch):
    export = ask(researcher)
    monkeypatch.setattr(exports, "written_rows", lambda _request, _path: 50_000)
    Export.objects.filter(pk=export.pk).update(state=JobState.RUNNING, manifest={"attempts": 3, "rows": 0})
    assert run(export).state == JobState.DONE


def test_job_whose_time_is_over_is_left_for_the_next_tick(researcher, monkeypatch):
    def time_is_over(*args, **kwargs):
        raise JobTimeoutException

    with monkeypatch.context() as patch, pytest.raises(JobTimeoutException):
        patch.setattr(exports, "write_file", time_is_over)
        run_export(ask(researcher).pk)
    export = Export.objects.get()
    assert export.state == JobState.RUNNING
    assert run(export).state == JobState.DONE


@pytest.mark.django_db(transaction=True)
def test_row_tells_how_many_rows_are_written(researcher, monkeypatch):
    monkeypatch.setattr(exports, "TOLD_EVERY_S", 0)
    told = []
    write = exports.write_file

    def listen(request, path, *, progress):
        with aside(lambda: told.append(Export.objects.get().rows)) as look:  # this thread sees one moment only

            def heard(rows):
                progress(rows)
                look()

            return write(request, path, progress=heard)

    monkeypatch.setattr(exports, "write_file", listen)
    make.make_exposure()
    run(ask(researcher))
    assert told == [1]


def test_running_export_shows_how_far_it_is(login, researcher):
    export = ask(researcher)
    Export.objects.filter(pk=export.pk).update(state=JobState.RUNNING, rows=120_000)
    assert "120,000 rows so far" in login(researcher).get(PAGE).content.decode()


def test_failure_is_kept_on_the_row_and_raised(researcher, monkeypatch, tmp_path):
    def fail(*args, **kwargs):
        raise OSError("No space left on device")

    monkeypatch.setattr(exports, "write_file", fail)
    export = ask(researcher)
    with pytest.raises(OSError, match="No space"):
        run_export(export.pk)
    export.refresh_from_db()
    assert export.state == JobState.FAILED
    assert "No space left" in export.error


def test_nothing_is_left_in_the_working_folder(made, tmp_path):
    assert list((tmp_path / "var" / "exports").iterdir()) == []


# --- the end --------------------------------------------------------------------------------------------------------


def end(export):
    Export.objects.filter(pk=export.pk).update(expires=timezone.now())


def test_file_ends_after_its_days_and_the_row_stays(made):
    name = made.file.name
    assert expire() == 0
    end(made)
    assert expire() == 1
    assert not default_storage.exists(name)
    assert Export.objects.get().digest == made.digest


def test_file_that_another_export_still_offers_stays(made, researcher):
    again = run(ask(researcher))
    assert again.file.name == made.file.name
    end(made)
    expire()
    assert default_storage.exists(again.file.name)


def test_file_with_texts_that_is_made_during_an_erasure_is_not_kept(researcher, monkeypatch, tmp_path):
    write = exports.write_file

    def erase_meanwhile(request, path, **kwargs):
        manifest = write(request, path, **kwargs)
        exports.end_with_texts()
        return manifest

    monkeypatch.setattr(exports, "write_file", erase_meanwhile)
    export = run(ask(researcher, stream="sft_rows", format=ExportFormat.JSONL))
    assert (export.state, export.file.name) == (JobState.FAILED, "")
    assert not [path for path in (tmp_path / "media").rglob("*") if path.is_file()]


def test_parts_of_an_export_that_is_over_are_removed(researcher, tmp_path):
    over, active = ask(researcher), ask(researcher)
    for export in (over, active):
        folder = tmp_path / "var" / "exports" / str(export.pk)
        folder.mkdir(parents=True)
        (folder / "sft_rows.v1.jsonl.part").write_text("a text")
    Export.objects.filter(pk=over.pk).update(state=JobState.FAILED)
    expire()
    assert [path.name for path in (tmp_path / "var" / "exports").iterdir()] == [str(active.pk)]


# --- the page -------------------------------------------------------------------------------------------------------


def test_researcher_asks_on_the_page_without_script(login, researcher):
    response = post(login(researcher), first="2026-03-01", last="2026-03-31")
    export = Export.objects.get()
    assert (response.status_code, response["Location"]) == (303, f"{PAGE}#export-{export.pk}")
    assert export.since == datetime(2026, 3, 1, tzinfo=UTC)
    assert export.until == datetime(2026, 4, 1, tzinfo=UTC)


@override_settings(TIME_ZONE="Asia/Shanghai")
def test_days_of_the_page_are_the_sites(login, researcher):
    post(login(researcher), first="2026-03-12", last="2026-03-12")
    export = Export.objects.get()
    assert export.since == datetime(2026, 3, 11, 16, tzinfo=UTC)
    assert export.until == datetime(2026, 3, 12, 16, tzinfo=UTC)


def test_log_of_one_form_comes_in_that_one(login, researcher):
    post(login(researcher), stream="trec_run", format="csv")
    assert Export.objects.get().format == ExportFormat.TREC


def test_double_click_is_one_export(login, researcher):
    client, key = login(researcher), make.make_key()
    assert [post(client, key=key).status_code for _click in range(2)] == [303, 303]
    assert Export.objects.count() == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"stream": "nonsense"},
        {"format": "xlsx"},
        {"format": "trec"},
        {"first": "yesterday"},
        {"first": "2026-03-12", "last": "2026-03-01"},
        {"key": ""},
        {"is_unmasked": "on", "reason": "curious"},
    ],
)
def test_wrong_form_is_answered_with_422_and_a_sentence(login, researcher, wrong):
    response = post(login(researcher), **wrong)
    assert response.status_code == 422
    assert b'role="alert"' in response.content
    assert not Export.objects.exists()


def test_masks_are_offered_only_to_those_with_the_right(login, researcher, admin):
    assert b'name="is_unmasked"' not in login(researcher).get(PAGE).content
    assert b'name="is_unmasked"' in login(admin).get(PAGE).content


def test_page_speaks_chinese(login, researcher, made):
    page = login(researcher).get(PAGE, headers={"Accept-Language": "zh-hans"}).content.decode()
    for words in [
        "申请导出",
        "供 TREC 工具使用",
        "sft_rows（含文本）",
        "全部日志",
        "已完成",
        "文件可下载 7 天",
        "1 行，",
    ]:
        assert words in page
    assert "the whole log" not in page


def test_list_offers_the_file_its_digest_and_its_rows(login, researcher, made):
    page = login(researcher).get(PAGE).content.decode()
    assert reverse("audit:export-file", args=[made.public_id]) in page
    assert made.digest in page


def test_row_asks_again_while_the_file_is_being_made(login, researcher):
    export = ask(researcher)
    response = login(researcher).get(
        reverse("audit:export-state", args=[export.public_id]), headers={"HX-Request": "true"}
    )
    assert response.status_code == 200
    assert b"every 3s" in response.content


def test_row_stops_asking_when_the_file_is_there(login, researcher, made):
    response = login(researcher).get(
        reverse("audit:export-state", args=[made.public_id]), headers={"HX-Request": "true"}
    )
    assert response.status_code == 286
    assert b"hx-trigger" not in response.content


def test_state_without_script_is_the_page(login, researcher, made):
    response = login(researcher).get(reverse("audit:export-state", args=[made.public_id]))
    assert (response.status_code, response["Location"]) == (303, f"{PAGE}#export-{made.pk}")


def test_download_gives_the_bytes_of_the_digest(login, researcher, made):
    response = login(researcher).get(reverse("audit:export-file", args=[made.public_id]))
    assert hashlib.sha256(b"".join(response.streaming_content)).hexdigest() == made.digest
    assert response["Content-Type"] == "text/csv; charset=utf-8"
    assert response["Content-Disposition"] == f'attachment; filename="qexplorer-{made.pk}-flat.v1.csv"'


def test_manifest_can_be_downloaded(login, researcher, made):
    response = login(researcher).get(reverse("audit:export-manifest", args=[made.public_id]))
    assert response.json()["sha256"] == made.digest


def test_file_whose_days_are_over_is_gone(login, researcher, made):
    end(made)
    assert login(researcher).get(reverse("audit:export-file", args=[made.public_id])).status_code == 410
    assert reverse("audit:export-file", args=[made.public_id]) not in login(researcher).get(PAGE).content.decode()


def test_failed_export_says_what_to_do(login, researcher):
    export = ask(researcher)
    Export.objects.filter(pk=export.pk).update(state=JobState.FAILED, error="Traceback: secret")
    page = login(researcher).get(PAGE).content
    assert b"Ask again" in page
    assert b"secret" not in page


# --- who may --------------------------------------------------------------------------------------------------------


@pytest.fixture(params=["exports", "export-state", "export-file", "export-manifest"])
def address(request, made):
    return reverse(f"audit:{request.param}", args=[] if request.param == "exports" else [made.public_id])


def test_stranger_is_sent_to_sign_in(client, address):
    response = client.get(address)
    assert response.status_code == 302
    assert "login" in response["Location"]


@pytest.mark.parametrize("who", ["auditor", "stranger"])
def test_whoever_may_not_export_gets_403(request, login, address, who):
    assert login(request.getfixturevalue(who)).get(address).status_code == 403


def test_whoever_may_not_export_cannot_ask(login, auditor):
    assert post(login(auditor)).status_code == 403
    assert not Export.objects.exists()


def test_another_researchers_export_is_not_there(login, make_user, made):
    other = login(make_user("other", "researcher"))
    assert made.digest not in other.get(PAGE).content.decode()
    for name in ("export-state", "export-file", "export-manifest"):
        assert other.get(reverse(f"audit:{name}", args=[made.public_id])).status_code == 404


def test_admin_sees_and_downloads_everyones(login, admin, made, researcher):
    client = login(admin)
    page = client.get(PAGE).content.decode()
    assert made.digest in page
    assert researcher.username in page
    assert client.get(reverse("audit:export-file", args=[made.public_id])).status_code == 200


def test_file_without_masks_needs_the_right_still(login, admin):
    export = run(ask(admin, is_unmasked=True, reason="law"))
    Export.objects.update(user=admin)
    admin.groups.clear()
    admin.groups.add(make.Group.objects.get(name="researcher"))
    assert login(admin).get(reverse("audit:export-file", args=[export.public_id])).status_code == 403


@pytest.mark.parametrize("name", ["exports", "export-state", "export-file", "export-manifest"])
def test_reading_is_by_get_only(login, researcher, made, name):
    args = [] if name == "exports" else [made.public_id]
    assert login(researcher).post(reverse(f"audit:{name}", args=args)).status_code == 405


def test_asking_is_by_post_only(login, researcher):
    assert login(researcher).get(reverse("audit:export-create")).status_code == 405


def test_list_needs_as_many_database_queries_for_many_rows(login, researcher, django_assert_max_num_queries):
    client = login(researcher)
    for _number in range(20):
        ask(researcher)
    with django_assert_max_num_queries(12):
        client.get(PAGE)
