"""Settings and recipes: the paper's numbers are in them, and nothing that cannot be gets through."""

import json

import pytest

from training import config
from training.config import RecipeError, TrainConfig, load_recipe, recipes
from training.models import DatasetKind


def make_config(**settings):
    return TrainConfig(**{"kind": "sft", "epochs": 1, "learning_rate": 1e-3} | settings)


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    """`recipe("learning_rate: 1.0")` reads a recipe of one SFT step with this line in it."""
    monkeypatch.setattr(config, "RECIPES", tmp_path)

    def read(*lines, head="title: T\nabout: A\n"):
        step = ["kind: sft", "dataset: sft", "epochs: 1", "learning_rate: 0.001"]
        given = {line.partition(":")[0]: line for line in [*step, *lines]}
        body = "\n    ".join(line for line in given.values() if line.partition(":")[2].strip())
        (tmp_path / "mine.yaml").write_text(f"{head}steps:\n  - {body}\n")
        return load_recipe("mine")

    return read


def test_every_recipe_that_comes_along_can_be_read():
    names = {recipe.name for recipe in recipes()}
    assert names == {
        "paper", "paper-d", "paper-cat", "paper-comp2", "pro", "small", "small-pol", "small-pro", "tiny"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "datasets"),
    [
        ("paper", ("union", "comp")),
        ("paper-d", ("sft", "comp")),
        ("paper-cat", ("cat", "comp")),
        ("paper-comp2", ("sft", "comp2")),
    ],
)
def test_recipes_of_table_6_have_the_numbers_of_section_4_4(name, datasets):
    sft, dpo = load_recipe(name).steps
    assert (sft.dataset, dpo.dataset) == datasets
    assert (sft.kind, sft.config.epochs, sft.config.learning_rate, sft.config.max_length) == ("sft", 2, 3e-5, 2048)
    assert (dpo.kind, dpo.config.epochs, dpo.config.learning_rate, dpo.config.max_length) == ("dpo", 5, 3e-5, 2048)
    assert (dpo.config.beta, dpo.config.gamma) == (0.1, 1.0)


def test_small_model_has_learning_rates_of_its_own():
    sft, dpo = load_recipe("small").steps
    assert (sft.config.learning_rate, sft.config.epochs) == (3e-3, 4)
    assert (dpo.config.learning_rate, dpo.config.epochs, dpo.config.adam_beta2) == (1e-3, 3, 0.98)


def test_datasets_that_a_step_may_name_are_the_kinds_that_are_built():
    assert sorted(name for names in config.DATASETS.values() for name in names) == sorted(DatasetKind.values)


def test_configuration_survives_json():
    written = make_config(kind="dpo", beta=0.3, seed=7)
    assert TrainConfig.read(json.loads(json.dumps(written.write()))) == written


def test_whole_number_stands_for_a_float(recipe):
    assert recipe("warmup: 0").steps[0].config.warmup == 0.0


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("lerning_rate: 1.0", r"mine.yaml: step 1: lerning_rate: unknown setting; known are .*learning_rate"),
        ("epochs: two", "mine.yaml: step 1: epochs: 'two' is no int"),
        ("epochs: 1.5", "epochs: 1.5 is no int"),
        ("epochs: true", "epochs: True is no int"),
        ("epochs: 0", "epochs: 0 is not between 1 and"),
        ("learning_rate: 3e-5", "learning_rate: '3e-5' is no float. Write 3.0e-5"),
        ("learning_rate: .nan", "learning_rate: nan is not between"),
        ("learning_rate: -0.1", "learning_rate: -0.1 is not between"),
        ("scheduler: step", "scheduler: 'step' is none of 'cosine'"),
        ("quantization: 8bit", "quantization: '8bit' is none of"),
        ("full: 1", "full: 1 is no bool"),
        ("kind: ppo", "kind: 'ppo' is none of"),
        ("epochs:", "epochs: missing"),
        ("dataset: comp", "dataset: sft steps learn from sft or cat or union"),
        ("dataset:", "dataset: sft steps learn from"),
        ("beta: 0.1", "beta: means nothing in sft steps"),
        ("micro_batch_size: 3", "micro_batch_size: 3 does not divide the batch_size, 16"),
    ],
)
def test_wrong_setting_is_refused_with_file_step_and_key(recipe, line, message):
    with pytest.raises(RecipeError, match=message):
        recipe(line)


@pytest.mark.parametrize("head", ["title: T\n", "title: T\nabout: A\nbase: B\n", "title: [T]\nabout: A\n", "title: {"])
def test_wrong_head_is_refused(recipe, head):
    with pytest.raises(RecipeError, match=r"mine\.yaml: "):
        recipe(head=head)


def test_chain_begins_with_its_only_sft(recipe):
    with pytest.raises(RecipeError, match="the first and only the first is sft"):
        recipe("kind: dpo", "dataset: comp")


def test_unknown_recipe_is_named_with_those_there_are():
    with pytest.raises(RecipeError, match="no recipe 'papers', only paper,"):
        load_recipe("papers")


@pytest.mark.parametrize(
    "settings",
    [
        {"kind": "dpo", "full": True},
        {"full": True, "quantization": "4bit"},
        {"scheduler": "linear", "final_learning_rate": 0.1},
    ],
)
def test_settings_that_exclude_each_other_are_refused(settings):
    with pytest.raises(RecipeError):
        make_config(**settings)
