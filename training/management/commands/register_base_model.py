"""`register_base_model NAME_OR_FOLDER`: a model that somebody else pretrained becomes a base for adapters."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from extraction.generation import ModelRefused
from extraction.prompts import CURRENT_PROMPT, PROMPTS
from training.named_base import register_base


class Command(BaseCommand):
    help = (
        "Takes a causal language model as a base: by its name on the model hub with --revision, or from a folder, "
        "whose weights are copied into the storage. Only architectures that transformers has itself; no code of a "
        "model runs."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("model", metavar="NAME_OR_FOLDER")
        parser.add_argument("--revision", default="", help="Full commit of a named model.")
        parser.add_argument("--prompt", choices=PROMPTS, default=CURRENT_PROMPT, help="Default: %(default)s.")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            base = register_base(options["model"], revision=options["revision"], prompt_version=options["prompt"])
        except (ModelRefused, OSError) as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f"{base.name}: {base.parameters:,} weights, weights {base.weights_hash[:12]}")
