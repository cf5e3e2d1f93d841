"""The settings of a training, and the recipes that chain trainings: one YAML file each in `training/recipes`.

Everything is checked when it is read. An unknown key, a value of the wrong type or out of range is a RecipeError that
names the file and the key: a misspelt setting must not cost a night on a card.
"""

from collections.abc import Mapping
from dataclasses import MISSING, Field, asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Self, get_type_hints

import yaml

RECIPES = Path(__file__).parent / "recipes"
DATASETS = {"sft": ("sft", "cat", "union"), "dpo": ("comp", "comp2", "pol"), "pro": ("list",)}
"""Which datasets (values of DatasetKind) each kind of training can learn from."""
_ONLY = {
    "beta": "dpo",
    "gamma": "dpo",
    "pro_lambda": "pro",
    "full": "sft",
    **dict.fromkeys(("lora_r", "lora_alpha", "lora_dropout"), "sft"),
}
"""Settings that other kinds of training would silently ignore: DPO and PRO go on with the SFT adapter as it is."""


class RecipeError(ValueError):
    """A setting that cannot be: the sentence names the file (or `config`), the key and what is allowed."""


def _number(default: Any, least: float, most: float) -> Any:
    return field(default=default, metadata={"least": least, "most": most})


def _word(default: Any, *words: str) -> Any:
    return field(default=default, metadata={"words": words})


@dataclass(frozen=True)
class TrainConfig:
    """One training. The defaults are the paper's where it gives a number (QExplorer section 4.4), else ours.

    `batch_size` counts rows (pairs, lists) in one optimizer step over all cards; `micro_batch_size` of them go through
    one card at a time and change nothing but memory and speed. It must divide `batch_size`.
    """

    kind: str = _word(MISSING, "sft", "dpo", "pro")
    epochs: int = _number(MISSING, 1, 1_000)
    learning_rate: float = _number(MISSING, 1e-8, 1.0)
    batch_size: int = _number(16, 1, 4_096)
    micro_batch_size: int = _number(16, 1, 4_096)
    max_length: int = _number(2_048, 16, 1 << 20)
    """Tokens of a row with its answer; a longer text loses its middle, never its answer."""
    lora_r: int = _number(16, 1, 1_024)
    lora_alpha: int = _number(32, 1, 4_096)
    lora_dropout: float = _number(0.05, 0.0, 0.9)
    beta: float = _number(0.1, 1e-6, 100.0)
    """DPO, eq. (5): how strongly the model is held to the SFT model."""
    gamma: float = _number(1.0, 0.0, 100.0)
    """DPO, eq. (6): weight of the SFT loss on the preferred answer."""
    pro_lambda: float = _number(1.0, 0.0, 100.0)
    """PRO: weight of the SFT loss on the best answer."""
    warmup: float = _number(0.03, 0.0, 0.99)
    """Share of the steps in which the learning rate rises."""
    scheduler: str = _word("cosine", "cosine", "linear", "constant")
    final_learning_rate: float = _number(0.0, 0.0, 1.0)
    """Where a cosine ends, as a share of `learning_rate`."""
    adam_beta1: float = _number(0.9, 0.0, 0.9999)
    adam_beta2: float = _number(0.999, 0.0, 0.99999)
    seed: int = _number(0, 0, 2**32 - 1)
    max_steps: int = _number(0, 0, 10_000_000)
    """Stop after so many steps; 0: after the epochs."""
    save_steps: int = _number(200, 1, 1_000_000)
    """Steps between two checkpoints."""
    threads: int = _number(1, 1, 1_024)
    """On a CPU. Another number rounds otherwise, so one makes the result the same on every machine; a small model gains
    little by more."""
    activation_checkpointing: str = _word("auto", "auto", "on", "off")
    """Compute activations again instead of keeping them: a third slower, for rows that do not fit. `auto`: where the
    longest micro-batch would fill the card."""
    quantization: str = _word("", "", "4bit")
    """`4bit`: QLoRA, the frozen base in four bits. Needs a CUDA card and bitsandbytes."""
    full: bool = False
    """Train all weights instead of an adapter; what is saved is a model folder (the small base is made so)."""

    def __post_init__(self) -> None:
        kinds = get_type_hints(type(self))
        for setting in fields(self):
            _check(setting, kinds[setting.name], getattr(self, setting.name))
        if self.batch_size % self.micro_batch_size:
            raise RecipeError(
                f"micro_batch_size: {self.micro_batch_size} does not divide the batch_size, {self.batch_size}."
            )
        if self.full and (self.kind != "sft" or self.quantization):
            raise RecipeError("full: only sft can train all weights, and not of a quantized base.")
        if self.final_learning_rate and self.scheduler != "cosine":
            raise RecipeError(f"final_learning_rate: a {self.scheduler} schedule has none.")

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> Self:
        """The configuration that a mapping says, as `write` gave it or a recipe has it. Raises RecipeError."""
        kinds = get_type_hints(cls)
        unknown = sorted(set(values) - set(kinds))
        if unknown:
            raise RecipeError(f"{unknown[0]}: unknown setting; known are {', '.join(sorted(kinds))}.")
        missing = [setting.name for setting in fields(cls) if _is_required(setting) and setting.name not in values]
        if missing:
            raise RecipeError(f"{missing[0]}: missing.")
        return cls(**{name: _whole_as_float(kinds[name], value) for name, value in values.items()})

    def write(self) -> dict[str, Any]:
        """Every setting, as JSON can hold it."""
        return asdict(self)


@dataclass(frozen=True)
class Step:
    """One training of a recipe and the kind of dataset (DatasetKind) that it learns from."""

    dataset: str
    config: TrainConfig

    @property
    def kind(self) -> str:
        return self.config.kind


@dataclass(frozen=True)
class Recipe:
    """Trainings in a row: the first makes an adapter of the base, each other goes on with the adapter before it."""

    name: str
    title: str
    about: str
    steps: tuple[Step, ...]


def recipes() -> list[Recipe]:
    """All recipes, by name. Raises RecipeError."""
    return [_read(path) for path in sorted(RECIPES.glob("*.yaml"))]


def load_recipe(name: str) -> Recipe:
    """The recipe of that name. Raises RecipeError, also where there is none."""
    names = sorted(path.stem for path in RECIPES.glob("*.yaml"))
    if name not in names:
        raise RecipeError(f"There is no recipe {name!r}, only {', '.join(names)}.")
    return _read(RECIPES / f"{name}.yaml")


def _read(path: Path) -> Recipe:
    try:
        values = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise RecipeError(f"{path.name}: not YAML: {error}") from error
    try:
        return _recipe(path.stem, values)
    except RecipeError as error:
        raise RecipeError(f"{path.name}: {error}") from None


def _recipe(name: str, values: object) -> Recipe:
    if not isinstance(values, dict) or set(values) != {"title", "about", "steps"}:
        raise RecipeError("a recipe has exactly title, about and steps.")
    for key in ("title", "about"):
        if not isinstance(values[key], str) or not values[key].strip():
            raise RecipeError(f"{key}: must be text.")
    if not isinstance(values["steps"], list) or not values["steps"]:
        raise RecipeError("steps: must be a list of at least one training.")
    steps = tuple(_numbered(number, step) for number, step in enumerate(values["steps"], start=1))
    if steps[0].kind != "sft" or any(step.kind == "sft" for step in steps[1:]):
        raise RecipeError("steps: the first and only the first is sft; the others go on with its adapter.")
    return Recipe(name, values["title"].strip(), " ".join(values["about"].split()), steps)


def _numbered(number: int, values: object) -> Step:
    try:
        return _step(values)
    except RecipeError as error:
        raise RecipeError(f"step {number}: {error}") from None


def _step(values: object) -> Step:
    if not isinstance(values, dict):
        raise RecipeError("must be a mapping of settings.")
    config = TrainConfig.read({key: value for key, value in values.items() if key != "dataset"})
    for key in values:
        if _ONLY.get(key, config.kind) != config.kind:
            raise RecipeError(f"{key}: means nothing in {config.kind} steps.")
    if values.get("dataset") not in DATASETS[config.kind]:
        raise RecipeError(f"dataset: {config.kind} steps learn from {' or '.join(DATASETS[config.kind])}.")
    return Step(values["dataset"], config)


def _is_required(setting: "Field[Any]") -> bool:
    return setting.default is MISSING


def _whole_as_float(kind: type, value: Any) -> Any:
    return float(value) if kind is float and type(value) is int else value


def _check(setting: "Field[Any]", kind: type, value: Any) -> None:
    """Raise RecipeError unless the value is of exactly this type (True is no number) and in the setting's range."""
    if type(value) is not kind and not (kind is float and type(value) is int):
        raise RecipeError(f"{setting.name}: {value!r} is no {kind.__name__}.{_hint(kind, value)}")
    words = setting.metadata.get("words")
    if words is not None and value not in words:
        raise RecipeError(f"{setting.name}: {value!r} is none of {', '.join(repr(word) for word in words)}.")
    if "least" in setting.metadata:
        least, most = setting.metadata["least"], setting.metadata["most"]
        if not least <= value <= most:
            raise RecipeError(f"{setting.name}: {value!r} is not between {least} and {most}.")


def _hint(kind: type, value: Any) -> str:
    """YAML 1.1 reads 3e-5 as a text; that is the slip a learning rate invites."""
    return " Write 3.0e-5, not 3e-5: YAML takes the latter for text." if kind is float and "e" in str(value) else ""
