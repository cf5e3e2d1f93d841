"""`make_suite FILE DIR`: a suite for `benchmark` from any file of labelled texts."""

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from training.benchmark.corpus import Columns, read_labelled, write_suite
from training.benchmark.make import make_suite
from training.benchmark.suites import SuiteError


class Command(BaseCommand):
    help = "Makes a suite for `benchmark` from a CSV or JSONL file of texts with a label."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("file", type=Path, metavar="FILE", help="CSV or JSONL, gzipped or not.")
        parser.add_argument("folder", type=Path, metavar="DIR", help="The new folder; its name is the suite's.")
        parser.add_argument("--text", default="text", metavar="COLUMN")
        parser.add_argument("--label", default="label", metavar="COLUMN")
        parser.add_argument(
            "--toxic", default="1", metavar="VALUES", help="Labels that count as toxic, comma separated."
        )
        parser.add_argument(
            "--source", default="source", metavar="COLUMN", help="Where a text comes from, if it says so."
        )
        parser.add_argument("--category", default="category", metavar="COLUMN")
        parser.add_argument("--phrases", default="human_phrases", metavar="COLUMN", help="Phrases that people marked.")
        parser.add_argument("--seed", type=int, default=0)
        parser.add_argument("--about", default="", help="For the data card: what the texts are and who labelled them.")
        parser.add_argument("--licence", default="", help="For the data card.")

    def handle(self, *args: Any, **options: Any) -> None:
        folder: Path = options["folder"]
        if folder.exists():
            raise CommandError(f"{folder} exists already.")
        columns = Columns(
            text=options["text"],
            label=options["label"],
            toxic=frozenset(value.strip() for value in options["toxic"].split(",")),
            source=options["source"],
            category=options["category"],
            phrases=options["phrases"],
        )
        try:
            made = make_suite(read_labelled(options["file"], columns), name=folder.name, seed=options["seed"])
        except SuiteError as error:
            raise CommandError(str(error)) from error
        write_suite(made, folder, seed=options["seed"], about=options["about"], licence=options["licence"])
        toxic = sum(item.toxic for item in made.suite.items)
        self.stdout.write(
            f"{len(made.suite.items)} items, {toxic} toxic, {len(made.suite.reports)} reports in {folder}."
        )
        for reason, number in made.dropped.items():
            self.stdout.write(f"left out, {reason}: {number}")
        self.stdout.write(f"Check it with: ./qexplorer benchmark {folder} --check")
