"""Take a model that somebody else pretrained as a base: by its name on the hub at a pinned commit, or from a folder.

A folder is copied into the storage, so that every worker fetches it by digest. A named model stays where it is: each
machine fetches it from the hub, or from its cache, at exactly that commit, and every adapter compares its hashes.
"""

import tempfile
from pathlib import Path

from django.contrib.auth.models import User
from django.db import transaction

from extraction.artifacts import SAFE, store_folder
from extraction.generation import ModelRefused, model_folder, template_hash, tokenizer_hash, weights_hash
from extraction.models import BaseModel
from extraction.prompts import get_prompt
from training.naming import next_name


def register_base(
    folder_or_name: str, *, revision: str = "", prompt_version: str, user: User | None = None
) -> BaseModel:
    """Record a base, named after its folder or hub name with a number. No code and no pickle of it is read.

    Raises ModelRefused where transformers does not support its architecture itself, where it has no weights in
    safetensors, no tokenizer or no chat template, or where a hub name comes without a commit; PromptUnknown.
    """
    prompt = get_prompt(prompt_version)
    is_folder = Path(folder_or_name).is_dir()
    folder = model_folder(folder_or_name, revision)
    parameters = _count_parameters(folder)
    hashes = {
        "weights_hash": weights_hash(folder),
        "tokenizer_hash": tokenizer_hash(folder),
        "template_hash": template_hash(folder),
    }
    digest = _store(folder) if is_folder else ""
    with transaction.atomic():
        return BaseModel.objects.create(
            name=next_name(BaseModel, Path(folder_or_name).resolve().name if is_folder else folder_or_name),
            reference="" if is_folder else folder_or_name,
            revision="" if is_folder else revision,
            digest=digest,
            prompt_version=prompt.version,
            parameters=parameters,
            user=user,
            **hashes,
        )


def _count_parameters(folder: Path) -> int:
    """Weights of the model, tied ones once, from its configuration alone: none is loaded."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise ModelRefused(f"{folder.name} is no causal language model that transformers supports itself.") from error
    return sum(weights.numel() for weights in model.parameters())


def _store(folder: Path) -> str:
    """Store what is safe of a folder; a README's pictures or weights in other formats stay behind."""
    with tempfile.TemporaryDirectory() as place:
        for path in folder.iterdir():
            if path.is_file() and path.suffix in SAFE:
                (Path(place) / path.name).symlink_to(path.resolve())
        return store_folder(Path(place))
