"""Adapters whose files are in the storage and pass the check, without any model."""

import json
from pathlib import Path
from typing import Any

from extraction.artifacts import store_folder
from extraction.models import Adapter, BaseModel
from tests.factories import make_adapter, make_base


def stored_base(folder: Path, **kwargs: Any) -> BaseModel:
    """A base with a file in the storage; `folder` is scratch space of the test."""
    place = folder / "base"
    place.mkdir(exist_ok=True)
    (place / "config.json").write_text("{}")
    return make_base(digest=store_folder(place), **kwargs)


def stored_adapter(folder: Path, *, base: BaseModel | None = None, name: str = "", **kwargs: Any) -> Adapter:
    """An adapter that was trained on its base, as its stamp says."""
    base = base or stored_base(folder)
    place = folder / "adapter"
    place.mkdir(exist_ok=True)
    (place / "adapter_config.json").write_text("{}")
    (place / "adapter_model.safetensors").write_bytes(b"weights")
    stamp = {"tokenizer_hash", "template_hash", "prompt_version", "weights_hash"}
    (place / "training.json").write_text(json.dumps({key: getattr(base, key) for key in stamp}, sort_keys=True))
    return make_adapter(name, base=base, **({"digest": store_folder(place)} | kwargs))
