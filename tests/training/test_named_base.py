"""Models of others as bases."""

import json
import shutil

import pytest
from django.core.management import CommandError, call_command

from extraction.artifacts import fetch_folder
from extraction.generation import LocalModel, ModelRefused, weights_hash
from extraction.models import BaseModel
from extraction.prompts import PromptUnknown, get_prompt
from tests.tiny import base_folder
from training.named_base import register_base

__all__ = ["base_folder"]

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _places(settings, tmp_path):
    settings.MEDIA_ROOT = tmp_path / "storage"
    settings.ARTIFACT_CACHE = tmp_path / "cache"


@pytest.fixture
def folder(base_folder, tmp_path):
    """A copy of the tiny base under a name, with files beside it that a model's folder may hold."""
    place = tmp_path / "Tiny-Chat"
    shutil.copytree(base_folder, place)
    (place / "logo.png").write_bytes(b"picture")
    (place / "pytorch_model.bin").write_bytes(b"a pickle")
    return place


def test_a_folder_becomes_a_base_that_any_machine_can_fetch(folder):
    base = register_base(str(folder), prompt_version="zh-1")
    assert (base.name, base.reference, base.prompt_version) == ("Tiny-Chat-1", "", "zh-1")
    shutil.rmtree(folder)
    fetched = fetch_folder(base.digest)
    assert weights_hash(fetched) == base.weights_hash
    assert not {"logo.png", "pytorch_model.bin"} & {path.name for path in fetched.iterdir()}
    model = LocalModel.open(fetched, prompt=get_prompt(base.prompt_version))
    assert base.parameters == sum(weights.numel() for weights in model._model.parameters())


def test_registering_again_makes_a_new_base(folder):
    register_base(str(folder), prompt_version="zh-1")
    assert register_base(str(folder), prompt_version="en-1").name == "Tiny-Chat-2"


def test_architecture_that_needs_code_of_its_own_is_refused(folder):
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "homemade", "auto_map": {"AutoModelForCausalLM": "modeling.Homemade"}}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelRefused, match="supports itself"):
        register_base(str(folder), prompt_version="zh-1")
    assert not BaseModel.objects.exists()


def test_weights_in_a_pickle_are_refused(folder):
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelRefused, match="no weights in safetensors"):
        register_base(str(folder), prompt_version="zh-1")


def test_a_name_needs_a_commit():
    with pytest.raises(ModelRefused, match="full commit"):
        register_base("Qwen/Qwen1.5-7B-Chat", revision="main", prompt_version="zh-1")


def test_an_unknown_prompt_is_refused_before_anything_is_read():
    with pytest.raises(PromptUnknown):
        register_base("nowhere", prompt_version="fr-1")


def test_the_command_prints_what_it_recorded(folder, capsys):
    call_command("register_base_model", str(folder))
    assert capsys.readouterr().out.startswith("Tiny-Chat-1: ")


def test_the_command_says_why_it_refuses(tmp_path):
    with pytest.raises(CommandError, match="full commit"):
        call_command("register_base_model", str(tmp_path / "nothing-here"))
