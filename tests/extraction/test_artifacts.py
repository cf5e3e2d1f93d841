"""Folders and files in the storage, addressed by digest."""

import hashlib
import json

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage

from extraction.artifacts import (
    CHECKPOINT,
    DamagedArtifact,
    UnsafeArtifact,
    artifact_name,
    delete_place,
    fetch_folder,
    open_artifact,
    store_artifact,
    store_file,
    store_folder,
)


@pytest.fixture(autouse=True)
def _places(settings, tmp_path):
    settings.MEDIA_ROOT = tmp_path / "storage"
    settings.ARTIFACT_CACHE = tmp_path / "cache"


@pytest.fixture
def folder(tmp_path):
    """A folder with one file at the top and one below."""
    place = tmp_path / "adapter"
    (place / "below").mkdir(parents=True)
    (place / "adapter_config.json").write_text('{"r": 16}')
    (place / "below" / "weights.safetensors").write_bytes(bytes(range(256)) * 50)
    return place


def replace(digest, data):
    default_storage.delete(artifact_name(digest))
    default_storage.save(artifact_name(digest), ContentFile(data))


def names(place):
    return sorted(path.relative_to(place).as_posix() for path in place.rglob("*") if path.is_file())


def test_a_folder_comes_back_as_it_was(folder):
    fetched = fetch_folder(store_folder(folder))
    assert names(fetched) == names(folder)
    assert all((fetched / name).read_bytes() == (folder / name).read_bytes() for name in names(folder))


def test_equal_folders_have_equal_digests_and_another_byte_another(folder):
    digest = store_folder(folder)
    assert store_folder(folder) == digest
    (folder / "adapter_config.json").write_text('{"r": 17}')
    assert store_folder(folder) != digest


def test_a_machine_with_an_empty_disk_fetches_everything(folder, settings, tmp_path):
    digest = store_folder(folder)
    fetch_folder(digest)
    settings.ARTIFACT_CACHE = tmp_path / "another machine"
    assert names(fetch_folder(digest)) == names(folder)


def test_a_fetched_folder_is_not_fetched_again(folder, monkeypatch):
    digest = store_folder(folder)
    place = fetch_folder(digest)
    monkeypatch.setattr(default_storage, "open", lambda name: 1 / 0)
    assert fetch_folder(digest) == place


def test_a_changed_file_is_refused_and_leaves_nothing(folder, settings):
    digest = store_folder(folder)
    replace(store_file(folder / "adapter_config.json"), b"{}")
    with pytest.raises(DamagedArtifact, match="is not what its digest names"):
        fetch_folder(digest)
    assert list(settings.ARTIFACT_CACHE.iterdir()) == []


def test_a_changed_manifest_is_refused(folder):
    digest = store_folder(folder)
    replace(digest, b"{}")
    with pytest.raises(DamagedArtifact, match="manifest"):
        fetch_folder(digest)


def test_a_missing_file_is_named():
    with pytest.raises(DamagedArtifact, match="0000 is not in the storage"):
        open_artifact("0000")


@pytest.mark.parametrize("name", ["optimizer.pt", "training_args.bin", "data.pkl", "run.py"])
def test_a_file_that_could_run_code_is_not_let_in(folder, name):
    (folder / name).write_bytes(b"")
    with pytest.raises(UnsafeArtifact, match=name):
        store_folder(folder)


def test_a_checkpoint_of_our_own_may_hold_the_optimizer(folder):
    (folder / "optimizer.pt").write_bytes(b"state")
    digest = store_folder(folder, allowed=CHECKPOINT)
    with pytest.raises(UnsafeArtifact, match=r"optimizer\.pt"):
        fetch_folder(digest)
    assert (fetch_folder(digest, allowed=CHECKPOINT) / "optimizer.pt").read_bytes() == b"state"


@pytest.mark.parametrize("name", ["../outside.json", "/etc/outside.json"])
def test_a_manifest_that_leads_out_of_its_folder_is_refused(folder, name):
    data = json.dumps({name: store_file(folder / "adapter_config.json")}).encode()
    digest = hashlib.sha256(data).hexdigest()
    store_artifact(data, digest)
    with pytest.raises(UnsafeArtifact, match="leads out of its folder"):
        fetch_folder(digest)


def test_a_place_of_its_own_is_deleted_without_what_lasts(folder):
    lasting = store_folder(folder)
    digest = store_folder(folder, place="checkpoints/7/40")
    delete_place("checkpoints/7")
    assert names(fetch_folder(lasting)) == names(folder)
    with pytest.raises(DamagedArtifact):
        open_artifact(digest, place="checkpoints/7/40")
    delete_place("checkpoints/7")


def test_what_lasts_is_never_deleted_as_a_place():
    with pytest.raises(ValueError, match="lasts"):
        delete_place("artifacts")
