"""Which risk model serves: promotion, rollback, and files that are missing or not what they were."""

import hashlib

import numpy as np
import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage

from extraction import registry, risk
from extraction.artifacts import artifact_name, store_artifact
from extraction.models import RiskModel, RiskPromotion

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _files(settings, tmp_path):
    """Artifacts of this test's own, and no model remembered from another test."""
    settings.MEDIA_ROOT = tmp_path
    registry._load.cache_clear()
    yield
    registry._load.cache_clear()


def make_risk_model(version: int, *, weight: float = 0.5) -> RiskModel:
    """A stored model of one weight."""
    weights = np.zeros(risk.BUCKETS, dtype=np.float32)
    weights[version] = weight
    data = risk.dumps(risk.RiskModel(analysis="qx-1", weights=weights, intercept=-1.0))
    digest = hashlib.sha256(data).hexdigest()
    store_artifact(data, digest)
    return RiskModel.objects.create(
        version=version, digest=digest, analysis="qx-1", positives=1, negatives=1, unlabelled=0
    )


def replace_file(model: RiskModel, data: bytes) -> None:
    default_storage.delete(artifact_name(model.digest))
    if data:
        default_storage.save(artifact_name(model.digest), ContentFile(data))


def test_nothing_serves_before_the_first_promotion():
    make_risk_model(1)
    assert registry.serving_row() is None
    assert registry.serving_risk() is None


def test_the_newest_promotion_serves():
    first, second = make_risk_model(1), make_risk_model(2)
    for model in (first, second, first):
        registry.promote_risk(model)
    assert registry.serving_row() == first
    version, model = registry.serving_risk()
    assert version == 1
    assert model.weights[1] == 0.5


def test_the_weights_are_read_once(monkeypatch):
    registry.promote_risk(make_risk_model(1))
    registry.serving_risk()
    monkeypatch.setattr(default_storage, "open", lambda name: 1 / 0)
    assert registry.serving_risk() is not None


def test_a_rollback_goes_one_step_back_and_is_logged():
    first, second = make_risk_model(1), make_risk_model(2)
    registry.promote_risk(first)
    registry.promote_risk(second)
    registry.rollback_risk(reason="odd queue")
    assert registry.serving_row() == first
    newest = RiskPromotion.objects.last()
    assert (newest.is_rollback, newest.reason) == (True, "odd queue")


def test_two_rollbacks_go_two_steps_back():
    models = [make_risk_model(number) for number in (1, 2, 3)]
    for model in models:
        registry.promote_risk(model)
    registry.rollback_risk()
    registry.rollback_risk()
    assert registry.serving_row() == models[0]


def test_a_promotion_after_a_rollback_is_what_the_next_rollback_takes_back():
    first, second, third = (make_risk_model(number) for number in (1, 2, 3))
    registry.promote_risk(first)
    registry.promote_risk(second)
    registry.rollback_risk()
    registry.promote_risk(third)
    registry.rollback_risk()
    assert registry.serving_row() == first


def test_one_press_that_arrives_twice_goes_one_step_back():
    models = [make_risk_model(number) for number in (1, 2, 3)]
    for model in models:
        registry.promote_risk(model)
    registry.rollback_risk(from_version=3)
    with pytest.raises(registry.ServesNoMore):
        registry.rollback_risk(from_version=3)
    assert registry.serving_row() == models[1]


def test_the_first_model_cannot_be_rolled_back():
    registry.promote_risk(make_risk_model(1))
    with pytest.raises(registry.NothingToRollBack):
        registry.rollback_risk()


@pytest.mark.parametrize("data", [b"", b"no archive"])
def test_a_model_whose_file_is_missing_or_damaged_scores_nothing_and_says_so(data, caplog):
    model = make_risk_model(1)
    registry.promote_risk(model)
    replace_file(model, data)
    assert registry.serving_risk() is None
    assert registry.serving_row() == model
    assert "cannot be read" in caplog.text


def test_a_file_that_holds_another_model_is_refused(caplog):
    model, other = make_risk_model(1), make_risk_model(2)
    registry.promote_risk(model)
    replace_file(model, default_storage.open(artifact_name(other.digest)).read())
    assert registry.serving_risk() is None
    assert "digest" in caplog.text


def test_storing_one_artifact_twice_keeps_one_file():
    model = make_risk_model(1)
    data = default_storage.open(artifact_name(model.digest)).read()
    store_artifact(data, model.digest)
    folder = artifact_name(model.digest).rpartition("/")[0]
    assert default_storage.listdir(folder)[1] == [model.digest]
