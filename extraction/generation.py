"""The language model that proposes queries, and how its files are known."""

import hashlib
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

from extraction.artifacts import SAFE

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

    from extraction.models import Adapter, BaseModel

STAMP_FILE = "training.json"
"""Lies beside the weights of an adapter; holds at least the keys of `stamp`."""
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "merges.txt", "vocab.txt")
_COMMIT = re.compile("[0-9a-f]{40}")


class ModelRefused(Exception):
    """A model's files cannot be used: unsafe, incomplete, or of no pinned revision."""


class AdapterRefused(Exception):
    """An adapter does not belong to the base that it is put on, or its files are unsafe."""


# --- files ----------------------------------------------------------------------------------------------------------


def model_folder(folder_or_name: Path | str, revision: str = "") -> Path:
    """The folder of a model: itself if it is one, else this machine's copy of a named model at a pinned commit.

    Only weights in safetensors, configuration and text are fetched from the hub. Raises ModelRefused for a revision
    that is no commit, since a branch may move.
    """
    if Path(folder_or_name).is_dir():
        return Path(folder_or_name)
    if not _COMMIT.fullmatch(revision):
        raise ModelRefused(f"{folder_or_name} needs the full commit of its revision, not {revision!r}.")
    from huggingface_hub import snapshot_download

    patterns = [f"*{suffix}" for suffix in sorted(SAFE)]
    return Path(snapshot_download(str(folder_or_name), revision=revision, allow_patterns=patterns))


def open_tokenizer(folder: Path) -> "PreTrainedTokenizerFast":
    """The tokenizer of a model folder, padding on the left, as a batch needs it that goes on from its right end.

    `tokenizer.json` is taken as it is. AutoTokenizer would go by the model's architecture, and make a byte-level
    tokenizer of a Qwen2 model's own characters.
    """
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    if (folder / "tokenizer.json").is_file():
        tokenizer = PreTrainedTokenizerFast.from_pretrained(folder, local_files_only=True)
    else:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    tokenizer.padding_side = "left"
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def weights_hash(folder: Path) -> str:
    """SHA-256 over names and contents of the weights. Raises ModelRefused where there are none in safetensors."""
    return _files_hash(folder, sorted(path.name for path in folder.glob("*.safetensors")), "weights in safetensors")


def tokenizer_hash(folder: Path) -> str:
    """SHA-256 of what turns text into ids; `tokenizer.json` says it all where it exists."""
    names = [name for name in _TOKENIZER_FILES if (folder / name).is_file()]
    return _files_hash(folder, names[:1] if names[:1] == ["tokenizer.json"] else names, "tokenizer")


def template_hash(folder: Path) -> str:
    """SHA-256 of the chat template, wherever it stands. Raises ModelRefused where there is none."""
    template = open_tokenizer(folder).chat_template
    if template is None:
        raise ModelRefused(f"{folder.name} has no chat template, so it cannot be asked.")
    return hashlib.sha256(json.dumps(template, sort_keys=True).encode()).hexdigest()


def stamp(base: Path, prompt_version: str) -> dict[str, str]:
    """What an adapter must carry in its `training.json`: on which base it was trained, and how that was asked."""
    return {
        "weights_hash": weights_hash(base),
        "tokenizer_hash": tokenizer_hash(base),
        "template_hash": template_hash(base),
        "prompt_version": prompt_version,
    }


def check_adapter(folder: Path, *, adapter: "Adapter", base: "BaseModel") -> None:
    """Raise AdapterRefused unless the files are safe and were trained on this base, as the rows say.

    An adapter loads on any model of the same shape without a word, and then talks nonsense.
    """
    if adapter.base_id != base.pk:
        raise AdapterRefused(f"{adapter} belongs to the base {adapter.base}, not to {base}.")
    found = read_stamp(folder)
    for row in (adapter, base):
        for key in ("tokenizer_hash", "template_hash", "prompt_version"):
            _compare(found, key, getattr(row, key))
    _compare(found, "weights_hash", base.weights_hash)


def read_stamp(folder: Path) -> dict[str, str]:
    """The stamp of an adapter's folder. Raises AdapterRefused where it has none, or holds what could run code."""
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.suffix not in SAFE:
            raise AdapterRefused(
                f"{path.name} is none of {', '.join(sorted(SAFE))}: it could run code when it is read."
            )
    for name in ("adapter_config.json", "adapter_model.safetensors", STAMP_FILE):
        if not (folder / name).is_file():
            raise AdapterRefused(f"The adapter has no {name}.")
    read: dict[str, str] = json.loads((folder / STAMP_FILE).read_text(encoding="utf-8"))
    return read


def _compare(found: dict[str, str], key: str, wanted: str) -> None:
    if found.get(key) != wanted:
        raise AdapterRefused(f"The adapter was trained with {key} {found.get(key)!r}, needed is {wanted!r}.")


def _files_hash(folder: Path, names: list[str], what: str) -> str:
    if not names:
        raise ModelRefused(f"{folder.name} has no {what}.")
    digest = hashlib.sha256()
    for name in names:
        with (folder / name).open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
        digest.update(f"{name} {content}\n".encode())
    return digest.hexdigest()
