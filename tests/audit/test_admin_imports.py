import json
import re

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.urls import reverse

from audit import jobs
from audit.models import ImportFile, Item, JobState

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("engine_file")]


def a_file(*rows, name="items.jsonl"):
    return SimpleUploadedFile(name, "\n".join(rows).encode())


def an_item(number, **values):
    row = {
        "platform": "market",
        "external_id": f"i{number}",
        "text": f"used bicycle {number}",
        "created": "2026-03-01T10:00:00Z",
    }
    return json.dumps(row | values)


def upload(client, *rows, **data):
    return client.post(reverse("admin:import-upload"), {"kind": "items", "file": a_file(*rows), **data})


@pytest.fixture
def client(login, admin):
    return login(admin)


def test_an_upload_is_previewed_and_stores_nothing(client):
    answer = upload(client, an_item(1), "{broken")
    row = ImportFile.objects.get()
    page = client.get(answer.url)
    assert row.state == JobState.DRAFT
    assert not Item.objects.exists()
    assert "used bicycle 1" in page.content.decode()
    assert re.search(r"<td>2</td>", page.content.decode())


def test_a_started_draft_is_loaded(client):
    upload(client, an_item(1), an_item(2))
    row = ImportFile.objects.get()
    client.post(reverse("admin:import-start", args=[row.pk]))
    jobs.run_import(row.pk)
    row.refresh_from_db()
    assert (row.state, row.created_count) == (JobState.DONE, 2)
    assert Item.objects.count() == 2


def test_a_draft_is_not_loaded_before_somebody_starts_it(client):
    upload(client, an_item(1))
    jobs.run_import(ImportFile.objects.get().pk)
    assert not Item.objects.exists()


def test_a_double_click_loads_once(client):
    upload(client, an_item(1))
    row = ImportFile.objects.get()
    for _click in range(2):
        client.post(reverse("admin:import-start", args=[row.pk]))
    jobs.run_import(row.pk)
    jobs.run_import(row.pk)
    row.refresh_from_db()
    assert row.created_count == 1


def test_an_unknown_time_zone_is_refused_with_the_form(client):
    answer = upload(client, an_item(1), zone="Moon/Base")
    assert answer.status_code == 422
    assert "Moon/Base" in answer.content.decode()
    assert not ImportFile.objects.exists()


def test_a_file_of_an_unknown_kind_is_refused_with_the_form(client):
    answer = client.post(
        reverse("admin:import-upload"), {"kind": "items", "file": a_file(an_item(1), name="items.exe")}
    )
    assert answer.status_code == 422


def test_a_binary_file_says_so_in_the_preview(client):
    answer = client.post(
        reverse("admin:import-upload"),
        {"kind": "items", "file": SimpleUploadedFile("items.jsonl", b"\xff\xfe\x00\x01")},
    )
    assert client.get(answer.url).status_code == 200


@pytest.mark.parametrize("who", ["auditor", "researcher", "stranger"])
def test_only_admins_load_files(request, login, who):
    client = login(request.getfixturevalue(who))
    assert upload(client, an_item(1)).status_code in {302, 403}
    assert not ImportFile.objects.exists()
