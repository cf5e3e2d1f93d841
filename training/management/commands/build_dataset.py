"""`build_dataset KIND`: a dataset from the log, as the page Training builds it."""

from argparse import ArgumentParser
from typing import Any

import yaml
from django.core.management.base import BaseCommand, CommandError

from audit.models import JobState
from audit.services.errors import ServiceError
from extraction.models import Adapter
from training.datasets import Options, OptionsError
from training.following import Interrupted, build
from training.management.moments import moment
from training.models import DatasetKind, EvaluationSet
from training.presentation.datasets import DatasetRow
from training.services import start_build

INTERRUPTED = 130


class Command(BaseCommand):
    help = (
        "Builds a dataset from the log, without what is near to the newest test set. Exit codes: 0 built, 1 failed, "
        "130 interrupted (a worker builds it then)."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("kind", metavar="KIND", choices=DatasetKind.values, help=", ".join(DatasetKind.values))
        parser.add_argument("--dry-run", action="store_true", help="Count what it would hold.")
        parser.add_argument("--until", default="", help="The log up to this time, ISO 8601 (default: now).")
        parser.add_argument("--adapter", default="", help="Who proposes: for pol, or for a list of its own queries.")
        parser.add_argument(
            "--set", default="", metavar="NAME", help="The test set to leave out (default: the newest)."
        )
        parser.add_argument(
            "--option", action="append", default=[], metavar="NAME=VALUE", help="A setting, such as max_length=8."
        )

    def handle(self, *args: Any, **options: Any) -> None:
        values = dict(_option(text) for text in options["option"])
        try:
            settings = Options.from_json(values | {"until": moment("--until", options["until"]).isoformat()})
            dataset = start_build(
                kind=DatasetKind(options["kind"]),
                options=settings,
                excluded=_test_set(options["set"]),
                adapter=_adapter(options["adapter"]),
                dry_run=options["dry_run"],
            )
        except (OptionsError, ServiceError) as error:
            raise CommandError(str(error)) from error
        try:
            row = DatasetRow(build(dataset))
        except Interrupted:
            raise CommandError(f"Stopped. {dataset} waits for a worker.", returncode=INTERRUPTED) from None
        if not row.is_counted:
            raise CommandError(row.last_words or f"{dataset} was not built.")
        self._report(row)

    def _report(self, row: DatasetRow) -> None:
        dataset = row.dataset
        out = "as many as the adapter gives" if row.is_drawn else f"{dataset.rows_out:,}"
        self.stdout.write(f"{dataset}: {dataset.rows_in:,} rows in, {out} samples out")
        for reason, count in row.drops:
            self.stdout.write(f"  {count:,} {reason}")
        for name, value in row.card:
            self.stdout.write(f"  {name}: {value}")
        if dataset.state == JobState.DONE:
            self.stdout.write(f"  SHA-256 {dataset.digest}")


def _option(text: str) -> tuple[str, Any]:
    name, is_there, value = text.partition("=")
    if not is_there:
        raise CommandError(f"--option: write {text!r} as NAME=VALUE.")
    return name, yaml.safe_load(value)


def _test_set(name: str) -> EvaluationSet | None:
    if not name:
        return EvaluationSet.objects.first()
    found = EvaluationSet.objects.filter(name=name).first()
    if found is None:
        raise CommandError(f"There is no test set {name!r}.")
    return found


def _adapter(name: str) -> Adapter | None:
    if not name:
        return None
    found = Adapter.objects.filter(name=name).first()
    if found is None:
        raise CommandError(f"There is no adapter {name!r}.")
    return found
