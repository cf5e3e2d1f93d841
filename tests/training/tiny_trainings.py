"""Rows, settings and a watch for trainings of the tiny model."""

from pathlib import Path
from typing import Any

from training.config import TrainConfig
from training.watching import Progress

TEXT = "加微信薇{}代开发票，刷单兼职日结"


def sft_rows(count: int) -> list[dict[str, Any]]:
    return [
        {"content": TEXT.format(number), "queries": [f"微信薇{number}", "代开发票"][: 1 + number % 2]}
        for number in range(count)
    ]


def pair_rows(count: int) -> list[dict[str, Any]]:
    return [
        {
            "content": TEXT.format(number),
            "chosen_queries": [f"微信薇{number}", "刷单"][: 1 + number % 2],
            "rejected_queries": ["日结"],
        }
        for number in range(count)
    ]


def list_rows(count: int) -> list[dict[str, Any]]:
    return [
        {
            "content": TEXT.format(number),
            "candidate_queries": [["日结"], [f"微信薇{number}", "刷单"], ["兼职"]][: 2 + number % 2],
            "rewards": [1.0, 7.0, 3.0][: 2 + number % 2],
        }
        for number in range(count)
    ]


def make_config(**settings) -> TrainConfig:
    defaults: dict[str, Any] = {
        "kind": "sft",
        "epochs": 1,
        "learning_rate": 1e-2,
        "batch_size": 4,
        "micro_batch_size": 4,
        "max_length": 512,
        "lora_r": 4,
        "lora_alpha": 8,
        "scheduler": "constant",
        "warmup": 0.0,
        "seed": 3,
        "save_steps": 2,
    }
    return TrainConfig(**defaults | settings)


class Notebook:
    """A watch that remembers everything, and asks to stop after `stop_after` steps."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.stop_after = stop_after
        self.steps = 0
        self.reports: list[Progress] = []
        self.checkpoints: list[Path] = []
        self.notes: list[str] = []

    def report(self, progress: Progress) -> None:
        self.reports.append(progress)

    def should_stop(self) -> bool:
        self.steps += 1
        return self.steps == self.stop_after

    def saved(self, checkpoint: Path, step: int) -> None:
        self.checkpoints.append(checkpoint)

    def note(self, sentence: str) -> None:
        self.notes.append(sentence)


def weights_of(folder: Path, name: str = "adapter_model.safetensors") -> dict[str, Any]:
    from safetensors.torch import load_file

    return load_file(folder / name)


def largest_difference(first: dict[str, Any], second: dict[str, Any]) -> float:
    assert first.keys() == second.keys()
    return float(max((first[name] - second[name]).abs().max() for name in first))
