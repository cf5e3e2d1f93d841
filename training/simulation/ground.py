"""The ground that all arms stand on, in steps, each on top of the folder of the one before:

1. `lay`: the collection (every train item that is nobody's report), its policies, the frozen set of the gate (dev items
   and reports: confirmed, frozen, then gone from the platform, so that no query of the loop finds one), a base model of
   these texts. The same for every seed.
2. `begin`: which train reports come when is drawn from the seed; those that never come are ordinary items. People work
   the first ones without suggestions, then the first risk model, SFT, DPO and the gate (`rounds.py`).
3. The rounds of each arm go on from there.
"""

import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from django.contrib.auth.models import User

from audit import indexing
from audit.intake import ComplaintRow, ItemRow, store_complaints, store_items
from audit.intake.store import create_policy, mark_gone
from audit.intake.suite import policy_key, suite_time
from audit.models import Policy, Report, SiteSettings
from extraction.prompts import get_prompt
from extraction.search import get_engine
from extraction.text import get_analysis
from training.base_model import PROFILES, Profile, build_base
from training.benchmark.evaluator import Bench
from training.benchmark.logged import logged_queries
from training.benchmark.suites import LabelledItem, LabelledReport, Suite
from training.frozen import freeze
from training.models import EvaluationSet
from training.named_base import register_base
from training.simulation.auditor import Auditor, Truth, Workers
from training.simulation.settings import BEFORE, Plan, SimulationError, chance
from training.simulation.tally import Tally
from training.watching import Unwatched

AUDITOR = "simulated auditor"
TESTS = "dev-split"
PLATFORM = "suite"


@dataclass(frozen=True)
class World:
    """A suite as the simulation needs it: labels, and what each report's auditor would search with."""

    suite: Suite
    own: dict[str, list[str]]
    """Report id → queries, best first."""

    @property
    def truth(self) -> Truth:
        names = {item.id: item.key for item in self.suite.items}
        own = {names[report.item]: self.own.get(report.id, []) for report in self.suite.reports}
        return Truth({item.key: item.toxic for item in self.suite.items}, own)

    def item_of(self, report: LabelledReport) -> LabelledItem:
        return self.suite.items[report.item - 1]


def open_world(suite: Suite, shared: Path) -> World:
    """With the queries that people would run: the phrases that annotators marked, the longest phrase with at least 3
    matches, and a rare one (training/benchmark/logged.py). They are counted once a suite, and look at no label.
    """
    place = shared / "own_queries.json"
    if not place.exists():
        beside = place.with_suffix(".new")
        beside.write_text(json.dumps(logged_queries(Bench(suite, shared).training), ensure_ascii=False))
        beside.replace(place)
    return World(suite, json.loads(place.read_text()))


# --- the collection -------------------------------------------------------------------------------------------------


def lay(world: World, plan: Plan, folder: Path) -> None:
    """Store the collection, freeze the set of the gate, build the base. Raises SimulationError, SearchError."""
    suite, tally = world.suite, Tally()
    user = User.objects.create(username=AUDITOR)
    SiteSettings.load()
    SiteSettings.objects.update(own_first_share=0.0)
    for category in sorted({report.category for report in suite.reports}):
        if not Policy.objects.filter(key=policy_key(category)).exists():
            create_policy(key=policy_key(category), name=category[:120] or "other", at=BEFORE)
    tested = suite.items_of("dev")
    store_items(map(item_row, tested), at=BEFORE)
    indexing.rebuild(suite.analysis.name)
    _freeze(world, plan, Auditor(user, world.truth, seed=0, error=0.0, tally=tally, workers=Workers(), now=BEFORE))
    mark_gone(PLATFORM, [item.key for item in tested])
    reported = {report.item for report in suite.reports_of("train")}
    collection = [item for item in suite.items_of("train") if item.id not in reported]
    store_items(map(item_row, collection), at=BEFORE)
    indexing.rebuild(suite.analysis.name)
    _make_base(suite, PROFILES[plan.profile], [item.text for item in collection])
    tally.save(folder)


def begin(world: World, stream: Sequence[LabelledReport]) -> None:
    """Bring in the reported items whose reports never come: they are ordinary items."""
    coming = {report.item for report in stream}
    others = {report.item for report in world.suite.reports_of("train")} - coming
    store_items((item_row(world.suite.items[id_ - 1]) for id_ in sorted(others)), at=BEFORE)
    index_all()


def stream_of(suite: Suite, seed: int, needed: int) -> list[LabelledReport]:
    """The first `needed` train reports in the order in which they come. Raises SimulationError for fewer."""
    reports = sorted(suite.reports_of("train"), key=lambda report: chance(seed, "stream", report.id))
    if len(reports) < needed:
        raise SimulationError(
            f"{suite.name} has {len(reports)} train reports, and {needed} would have to come: fewer rounds, days or "
            "reports a day, or a shorter warm-up."
        )
    return reports[:needed]


def arrive(world: World, report: LabelledReport, at: datetime) -> Report:
    """A user complains: the item becomes known, and its report opens. Suggestions are the caller's."""
    item = world.item_of(report)
    store_items([item_row(item)], at=at)
    index_all()
    complaint = ComplaintRow(PLATFORM, report.id, item.key, policy_key(report.category), at)
    store_complaints([complaint], at=at, suggest=False)
    reports = Report.objects.select_related("item", "item_text", "policy")
    return reports.get(item__platform=PLATFORM, item__external_id=item.key)


def item_row(item: LabelledItem) -> ItemRow:
    return ItemRow(PLATFORM, item.key, item.text, suite_time(item.key))


def index_all() -> None:
    """Index what is behind, visible to the next search; what the engine does not take now waits. Raises SearchError."""
    while indexing.sweep():
        pass
    get_engine().refresh()


def _make_base(suite: Suite, profile: Profile, texts: Sequence[str]) -> None:
    """A base of the collection's texts alone; of more than the profile takes, every second or third and so on."""
    prompt = get_prompt("en-1" if suite.analysis.base == "bench-en-1" else "zh-1")
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / profile.name
        folder.mkdir()
        build_base(
            texts[:: -(-len(texts) // profile.most_texts)],
            profile=profile,
            prompt=prompt,
            analysis=get_analysis(),
            seed=0,
            out=folder,
            watch=Unwatched(),
        )
        register_base(str(folder), prompt_version=prompt.version)


def _freeze(world: World, plan: Plan, auditor: Auditor) -> EvaluationSet:
    """Confirm reports of the dev split, evenly over the file, and freeze them with the index of that time."""
    reports = world.suite.reports_of("dev")
    for report in reports[:: -(-len(reports) // plan.frozen)]:
        auditor.now += timedelta(minutes=1)
        auditor.work(arrive(world, report, auditor.now), 0, explores=False)
    return freeze(TESTS, cutoff=BEFORE)
