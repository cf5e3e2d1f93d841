"""After an erasure: datasets that hold the text are withdrawn, frozen indexes are made anew."""

import json
from datetime import timedelta

import pytest
from django.core.files.storage import default_storage
from django.urls import reverse
from django.utils import timezone

from audit.logs import Privacy, Pseudonyms
from audit.services.erasing import erase_item
from extraction.artifacts import artifact_name, store_file
from tests import factories as make
from tests.audit.loop import make_indexed
from tests.queues import empty_queues, waiting
from tests.training.small_log import MAY, confirmed, own
from training.datasets import Options, build
from training.exports import DATASETS, SFT_ROWS
from training.frozen import FrozenIndex, freeze
from training.models import DatasetKind
from training.withdrawing import search_what_is_due, withdraw

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _places(settings, tmp_path):
    settings.MEDIA_ROOT = tmp_path / "media"
    settings.VAR_DIR = tmp_path
    settings.SEARCH_FILE = tmp_path / "search.sqlite3"


@pytest.fixture
def admin():
    return make.make_user("root", is_superuser=True)


def build_of(tmp_path, *samples, **kwargs):
    """A finished build; a sample is the texts that are joined in it."""
    path = tmp_path / "rows.jsonl"
    lines = [
        json.dumps({"id": "1", "content": ",".join(texts), "lengths": [len(text) for text in texts]})
        for texts in samples
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return make.make_dataset(digest=store_file(path), **kwargs)


def erase(item, admin):
    erase_item(item=item, user=admin, reason="asked")


def test_a_build_that_holds_an_erased_text_is_withdrawn_with_its_file(tmp_path, admin):
    item = make.make_item("to be forgotten, with a comma")
    dataset = build_of(tmp_path, ["another"], ["one more", "to be forgotten, with a comma", "third"])
    erase(item, admin)
    assert withdraw() == 1
    dataset.refresh_from_db()
    assert dataset.withdrawn is not None
    assert not default_storage.exists(artifact_name(dataset.digest))


@pytest.mark.parametrize("kind", [DatasetKind.SFT, DatasetKind.CAT])
def test_what_is_built_of_the_log_is_found_again_however_its_texts_are_joined(tmp_path, admin, kind):
    policy = make.make_policy()
    reports = [
        confirmed(text, policy=policy) for text in ("  加微信，代开发票 ", "加微信代办证件, really", "加微信刷单")
    ]
    for report in reports:
        own(report, "加微信")
    made = build(kind, Options(until=MAY), out=tmp_path / "built.jsonl")
    dataset = make.make_dataset(kind=kind, digest=store_file(made.path))
    erase(make.make_item("in no dataset"), admin)
    assert withdraw() == 0
    erase(reports[1].item, admin)
    assert withdraw() == 1
    dataset.refresh_from_db()
    assert dataset.withdrawn is not None


def test_a_build_without_it_stays(tmp_path, admin):
    dataset = build_of(tmp_path, ["another"])
    erase(make.make_item("to be forgotten"), admin)
    assert withdraw() == 0
    dataset.refresh_from_db()
    assert dataset.withdrawn is None
    assert default_storage.exists(artifact_name(dataset.digest))


def test_equal_builds_are_withdrawn_together(tmp_path, admin):
    for _ in range(2):
        build_of(tmp_path, ["to be forgotten"])
    erase(make.make_item("to be forgotten"), admin)
    assert withdraw() == 2


def test_a_build_is_searched_again_after_the_next_erasure_only(tmp_path, admin):
    empty_queues()
    build_of(tmp_path, ["first", "second"])
    search_what_is_due()
    assert waiting("data") == []
    erase(make.make_item("something else"), admin)
    search_what_is_due()
    assert waiting("data") == ["withdraw-erased"]
    withdraw()
    empty_queues()
    search_what_is_due()
    assert waiting("data") == []
    erase(make.make_item("second"), admin)
    assert withdraw() == 1


def test_a_file_that_is_missing_is_no_proof(admin, caplog):
    dataset = make.make_dataset()
    erase(make.make_item("to be forgotten"), admin)
    assert withdraw() == 0
    dataset.refresh_from_db()
    assert dataset.withdrawn is None
    assert "cannot be searched" in caplog.text


def test_a_withdrawn_build_is_left_out_of_exports_and_has_no_file(tmp_path, admin, client):
    dataset = build_of(tmp_path, ["to be forgotten"])
    erase(make.make_item("to be forgotten"), admin)
    withdraw()
    privacy = Privacy(Pseudonyms.from_settings(), is_masked=True)
    assert list(SFT_ROWS.rows(privacy)) == []
    (row,) = DATASETS.rows(privacy)
    assert row["withdrawn"] is not None
    client.force_login(admin)
    taken = {"key": make.make_key(), "reason": "to train"}
    assert client.post(reverse("training:dataset-file", args=[dataset.name]), taken).status_code == 404
    assert "Withdrawn" in client.get(reverse("training:dataset", args=[dataset.name])).text


def test_a_frozen_index_is_made_anew_without_the_erased_text(admin):
    now = timezone.now()
    early = now - timedelta(days=8)
    make_indexed("an item of today, so that there is an index")
    kept, forgotten = (
        make.make_item(text, text_at=early, created=early, imported=early)
        for text in ("cheap diploma kept", "cheap diploma forgotten")
    )
    make.make_report(text="reported", opened=now - timedelta(days=1), status="closed")
    frozen = freeze("t-1", cutoff=now - timedelta(days=7))
    assert set(FrozenIndex(frozen).find("cheap diploma")) == {kept.text_id, forgotten.text_id}
    erase(forgotten, admin)
    assert FrozenIndex(frozen).find("cheap diploma") == (kept.text_id,)
