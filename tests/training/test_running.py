"""A run on this machine: files by digest, a process of its own, and what its end leaves in the rows."""

import hashlib
import json

import pytest

from extraction.artifacts import fetch_folder, store_file, store_folder
from extraction.generation import template_hash, tokenizer_hash, weights_hash
from tests.factories import make_base, make_dataset, make_learning_run
from tests.tiny import base_folder
from training import running, supervising
from training.config import TrainConfig
from training.models import RunState

__all__ = ["base_folder"]

pytestmark = [pytest.mark.django_db, pytest.mark.slow]

TEXTS = ["加微信代开发票", "低价出售高仿包邮私聊", "刷单兼职日结联系微信", "办证毕业证加群优惠", "今天天气不错吃饭"]
PHRASES = ["代开发票", "高仿", "刷单", "办证", "加群"]
SFT = TrainConfig(
    kind="sft",
    epochs=1,
    learning_rate=3e-3,
    batch_size=4,
    micro_batch_size=4,
    max_length=256,
    max_steps=8,
    save_steps=2,
)


@pytest.fixture(autouse=True)
def _places(settings, tmp_path, monkeypatch):
    settings.MEDIA_ROOT = tmp_path / "storage"
    settings.VAR_DIR = tmp_path / "machine"
    settings.ARTIFACT_CACHE = settings.VAR_DIR / "cache"
    monkeypatch.setattr(supervising, "POLL_S", 0.05)
    monkeypatch.setattr(running, "ROW_EVERY_S", 0.0)


@pytest.fixture
def base(base_folder):
    return make_base(
        digest=store_folder(base_folder),
        weights_hash=weights_hash(base_folder),
        tokenizer_hash=tokenizer_hash(base_folder),
        template_hash=template_hash(base_folder),
    )


@pytest.fixture
def dataset(tmp_path):
    path = tmp_path / "rows.jsonl"
    rows = [{"content": TEXTS[n % 5], "queries": [PHRASES[n % 5]], "id": n} for n in range(40)]
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return make_dataset(digest=store_file(path), rows_out=len(rows))


@pytest.fixture
def run(base, dataset):
    return queued(base, dataset)


def queued(base, dataset, config=SFT, **values):
    return make_learning_run(base=base, dataset=dataset, state=RunState.QUEUED, config=config.write(), **values)


def weights(run):
    path = fetch_folder(run.adapter.digest) / "adapter_model.safetensors"
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_run_makes_an_adapter_with_its_card(run):
    running.train(run.pk)
    run.refresh_from_db()
    assert (run.state, run.error) == (RunState.DONE, "")
    assert (run.step, run.max_steps) == (8, 8)
    assert run.adapter.name == "sft-1"
    assert run.adapter.card["dataset"] == run.dataset.name
    assert [point[0] for point in run.curve][-1] == 8
    assert not running.run_folder(run.pk).exists()
