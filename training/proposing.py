"""Adapters that propose queries outside the loop: for an evaluation, for D_pol."""

from extraction.artifacts import fetch_folder
from extraction.generation import LocalModel, check_adapter
from extraction.models import Adapter, BaseModel
from extraction.prompts import get_prompt


class Proposers:
    """Gives the model that proposes for an adapter, with the adapter on it, under its name.

    A base is opened once, and left when another one is asked for: two rarely fit one card.
    """

    def __init__(self) -> None:
        self._base: BaseModel | None = None
        self._model: LocalModel | None = None

    def __call__(self, adapter: Adapter) -> LocalModel:
        """Raises AdapterRefused, DamagedArtifact, UnsafeArtifact and ModelRefused."""
        model = self._open(adapter.base)
        if adapter.name not in model.adapters:
            folder = fetch_folder(adapter.digest)
            check_adapter(folder, adapter=adapter, base=adapter.base)
            model.load_adapter(adapter.name, folder)
        return model

    def _open(self, base: BaseModel) -> LocalModel:
        if self._model is None or self._base != base:
            self._model = None  # first out, then in
            folder = fetch_folder(base.digest) if base.digest else base.reference
            self._model = LocalModel.open(folder, prompt=get_prompt(base.prompt_version), revision=base.revision)
            self._base = base
        return self._model
