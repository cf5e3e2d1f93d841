"""The product's language model as a method: a base, its SFT adapter, and that adapter aligned by DPO or PRO.

All of it is made of a suite's train split by the product's own code: the base of the texts of its items, D of the
simulated log (training/benchmark/logged.py), D_comp of the verdicts in that log, D_pol and the ranked lists of PRO of
the SFT model's own queries, scored on the train index by the risk model of the log. A tenth of the train reports is
kept out of all of them.

| method | plays |
|---|---|
| `llm-base`, `llm-sft`, `llm-sft-dpo` (D_comp), `llm-sft-pol` (D_pol), `llm-sft-pro` (ranked lists) | the model's first query of each report, by its own log-probability |
| the same with `-tried` | up to 10 queries of the model for each report, tried on the index and played as `search` does |
| the same with `-tried-one` | of those the best of each report, played by score, as `search-one` does |
| `llm-sft-pol-weighed-W` | as `llm-sft-pol-tried-one`, each score times exp(W/10 · the query's mean log-probability) |
| `search+llm`, `search+llm-pol` | the phrases of `search` and those of the aligned model together, played as `search` does |
| `drawn-tried`, `drawn-tried-one`, `search+drawn` | the controls of these: 10 phrases of each report drawn at random in the place of a model's |

What is trained stays in the working folder: one training serves all methods and indexes of a seed.
"""  # noqa: E501 - a table

import hashlib
import json
import math
import os
import random
import shutil
import subprocess
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from enum import StrEnum
from functools import cached_property, lru_cache, partial
from importlib.util import find_spec
from itertools import accumulate, chain
from pathlib import Path

from extraction.constraint import Limits
from extraction.generation import LocalModel, Proposed
from extraction.prompts import get_prompt
from extraction.risk import RiskModel
from extraction.suggest import Trial, expected_share, proposed_candidates
from extraction.text import MatchMode
from training.base_model import PROFILES, build_base
from training.benchmark.choice import Choice, Method, MethodUnavailable, best_of_each
from training.benchmark.logged import logged_queries
from training.benchmark.options import LearnFrom
from training.benchmark.phrases import frequencies, phrases_of, query_lengths
from training.benchmark.readings import risk_of, rows_of
from training.benchmark.suggester import best_played, played, scored_trials, try_and_score
from training.benchmark.suites import LabelledReport, Task, TaskReport, Training
from training.config import TrainConfig, load_recipe
from training.datasets.builders import Scored, build_d, build_d_comp, build_d_pol, build_ranked_pol, eligible, grouped
from training.datasets.options import Options
from training.datasets.pairs import Drops, Evidence, Pair
from training.datasets.policy import ReportedText, draw, score_by_risk
from training.run_process import FINISHED, Spec, command, read_events
from training.watching import Unwatched

PROFILE = "small"
RECIPE, RECIPE_OWN, RECIPE_LISTS = "small", "small-pol", "small-pro"
CANDIDATES = 10
SAMPLES = 8
QUERIES_A_SAMPLE = 3
HELD_OUT_OF = 10


WEIGHTS = (1, 3, 10)
"""How much the model's own word counts beside what a query retrieves, in tenths; 0 is `llm-sft-pol-tried-one`."""


class Stage(StrEnum):
    """How far a model was trained."""

    BASE = "base"
    SFT = "sft"
    DPO = "sft-dpo"
    POL = "sft-pol"
    PRO = "sft-pro"


def alone(stage: Stage, task: Task) -> Choice:
    """The model's first query of each report, by its mean log-probability. Nothing is searched before."""
    return best_of_each(task, [[(one.confidence, one.text) for one in own[:1]] for own in _proposals(stage, task)])


def tried(stage: Stage, task: Task) -> Choice:
    """The model's queries tried on the index and played as `search` plays its phrases."""
    return played(task, _trials(stage, task))


def tried_one(stage: Stage, task: Task) -> Choice:
    """Of the model's queries tried on the index the best of each report, played by score."""
    return best_played(task, _trials(stage, task))


def weighed(weight: float, task: Task) -> Choice:
    """The log-probability as a second signal: the best query of each report by s(q) · exp(weight · confidence)."""
    scored = [
        [
            (
                expected_share(trial, frozenset())[0] * math.exp(weight * (trial.candidate.confidence or 0.0)),
                trial.candidate.text,
            )
            for trial in own
            if trial.first
        ]
        for own in _trials(Stage.POL, task)
    ]
    return best_of_each(task, scored)


def beside_search(stage: Stage, task: Task) -> Choice:
    """The phrases of `search` and the model's queries, equal ones once, played as `search` plays its own."""
    return played(task, _with_search(task, _trials(stage, task)))


def drawn_tried(task: Task) -> Choice:
    """What `tried` finds with phrases that nobody chose."""
    return played(task, _drawn_trials(task))


def drawn_tried_one(task: Task) -> Choice:
    """What `tried_one` finds with phrases that nobody chose."""
    return best_played(task, _drawn_trials(task))


def drawn_beside_search(task: Task) -> Choice:
    """What `beside_search` finds with phrases that nobody chose: the worth of trying more phrases, and longer ones."""
    return played(task, _with_search(task, _drawn_trials(task)))


LLM: Mapping[str, Method] = {
    **{f"llm-{stage}": partial(alone, stage) for stage in Stage},
    **{f"llm-{stage}-tried": partial(tried, stage) for stage in Stage},
    **{f"llm-{stage}-tried-one": partial(tried_one, stage) for stage in Stage},
    **{f"llm-{Stage.POL}-weighed-{weight}": partial(weighed, weight / 10) for weight in WEIGHTS},
    "search+llm": partial(beside_search, Stage.DPO),
    "search+llm-pol": partial(beside_search, Stage.POL),
    "drawn-tried": drawn_tried,
    "drawn-tried-one": drawn_tried_one,
    "search+drawn": drawn_beside_search,
}


def _with_search(task: Task, trials: Sequence[Sequence[Trial]]) -> list[list[Trial]]:
    together = []
    for own, others in zip(scored_trials(task, risk_of(task)), trials, strict=True):
        known = {trial.candidate.key for trial in own}
        together.append([*own, *(trial for trial in others if trial.candidate.key not in known)])
    return together


@lru_cache(maxsize=1)
def _drawn_trials(task: Task) -> list[list[Trial]]:
    """10 phrases of each report, of the lengths that a model may say, drawn evenly."""
    draw = random.Random(task.seed)  # noqa: S311 - a control, not a secret
    phrases = []
    for report in task.reports:
        keys = phrases_of(report.text, task.analysis, query_lengths(task.analysis))
        places = [
            task.analysis.find(report.text, key, MatchMode.PHRASE)[0]
            for key in draw.sample(keys, min(CANDIDATES, len(keys)))
        ]
        spans = [(start, end, 0.0) for start, end in places]
        phrases.append(proposed_candidates(report.text, spans, analysis=task.analysis))
    return try_and_score(task, risk_of(task), phrases)


@lru_cache(maxsize=len(Stage))
def _trials(stage: Stage, task: Task) -> list[list[Trial]]:
    phrases = [
        proposed_candidates(report.text, [(one.start, one.end, one.confidence) for one in own], analysis=task.analysis)
        for report, own in zip(task.reports, _proposals(stage, task), strict=True)
    ]
    return try_and_score(task, risk_of(task), phrases)


def _proposals(stage: Stage, task: Task) -> list[list[Proposed]]:
    models = _models(task.training, task.work, task.seed, task.options.epochs, risk_of(task))
    return models.proposals(stage, task.reports)


@lru_cache(maxsize=1)
def _models(training: Training, work: Path, seed: int, epochs: int | None, risk: RiskModel) -> "Models":
    return Models(training, work, seed=seed, epochs=epochs, risk=risk)


# --- what is trained ------------------------------------------------------------------------------------------------


class Models:
    """The models of a train split and a seed, each made when it is first asked for, and kept in `work`.

    Raises MethodUnavailable where the learning stack is missing, or where there is nothing to learn from.
    """

    def __init__(self, training: Training, work: Path, *, seed: int, epochs: int | None, risk: RiskModel) -> None:
        if find_spec("torch") is None:
            raise MethodUnavailable("the learning stack is not installed.")
        is_spaced = training.analysis.base == "bench-en-1"
        self._training = training
        self._seed = seed
        self._risk = risk
        self._configs = {stage: _with(config, seed, epochs) for stage, config in _recipe_configs().items()}
        self._longest = query_lengths(training.analysis)[-1]
        self._prompt = get_prompt("en-1" if is_spaced else "zh-1")
        self._options = Options(
            prompt_version=self._prompt.version,
            analysis=training.analysis.name,
            seed=seed,
            max_length=self._longest,
        )
        self._folder = work / f"llm-{self._digest()[:12]}-{seed}"
        self._folder.mkdir(parents=True, exist_ok=True)

    @lru_cache(maxsize=len(Stage))  # noqa: B019 - there is one such object a run
    def proposals(self, stage: Stage, reports: tuple[TaskReport, ...]) -> list[list[Proposed]]:
        """For each report the model's greedy list, then what it says when it is drawn from, at most 10, all distinct.

        One trained on single phrases ends its list after the first: without drawing it would have one candidate.
        """
        self._note(stage)
        texts = [report.text for report in reports]
        adapter = self._loaded(stage)
        lists = self._model.propose(texts, [adapter] * len(texts), limit=CANDIDATES)
        sampled = self._model.sample(
            texts,
            adapter,
            count=SAMPLES,
            temperature=self._options.temperature,
            seed=self._seed,
            limit=QUERIES_A_SAMPLE,
        )
        return [
            self._distinct([*greedy, *sorted(chain(*drawn), key=lambda one: -one.confidence)])
            for greedy, drawn in zip(lists, sampled, strict=True)
        ]

    def _note(self, stage: Stage) -> None:
        """Leave beside the model what it is worth by itself: -log P of the held-out reports' logged queries."""
        place = self._folder / f"{stage}.json"
        if not place.exists():
            place.write_text(json.dumps({"held_out_nll_per_character": self.held_out_nll(stage)}))

    def held_out_nll(self, stage: Stage) -> float:
        """-log P, nats a character, of the logged queries of the reports kept out, each as a whole answer."""
        queries: dict[str, list[str]] = {}
        for pair in self._eligible(is_held_out=True):
            queries.setdefault(pair.text, []).append(pair.phrase)
        log_probs = self._model.log_probs(list(queries), self._loaded(stage), list(queries.values()))
        characters = sum(len(phrase) + 1 for own in queries.values() for phrase in own)
        return -sum(map(sum, log_probs)) / characters

    @cached_property
    def _model(self) -> LocalModel:
        return LocalModel.open(self.base, prompt=self._prompt, device="cpu", limits=Limits(longest=self._longest))

    def _loaded(self, stage: Stage) -> str | None:
        if stage is Stage.BASE:
            return None
        if stage not in self._model.adapters:
            self._model.load_adapter(stage, self._adapter(stage))
        return stage

    @cached_property
    def base(self) -> Path:
        """The folder of the base, made of the texts of all train items."""
        folder, beside = self._folder / "base", self._folder / "base.new"
        if not folder.exists():
            shutil.rmtree(beside, ignore_errors=True)
            beside.mkdir()
            built = build_base(
                [item.text for item in self._training.items],
                profile=PROFILES[PROFILE],
                prompt=self._prompt,
                analysis=self._training.analysis,
                seed=self._seed,
                out=beside,
                watch=Unwatched(),
            )
            (self._folder / "card.json").write_text(json.dumps(built.card, ensure_ascii=False, indent=1))
            beside.rename(folder)
        return folder

    def _adapter(self, stage: Stage) -> Path:
        folder = self._folder / stage
        if not folder.exists():
            self._train(stage, start=None if stage is Stage.SFT else self._adapter(Stage.SFT))
        return folder

    def _train(self, stage: Stage, start: Path | None) -> None:
        """Train in a process of its own, on one thread, so that one seed gives one adapter."""
        work = self._folder / f"{stage}.work"
        work.mkdir(exist_ok=True)
        spec = Spec(
            config=self._configs[stage],
            rows=work / "rows.jsonl",
            base=str(self.base),
            prompt=self._prompt.version,
            out=self._folder / stage,
            work=work,
            events=work / "events.jsonl",
            stop_file=work / "stop",
            start=start,
        )
        with spec.rows.open("w", encoding="utf-8") as out:
            out.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in self._rows(stage))
        spec.write(work / "spec.json")
        done = subprocess.run(  # noqa: S603 - our own module
            command(work / "spec.json"), env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True
        )
        if done.returncode != FINISHED:
            ends = [event for event in read_events(spec.events)[0] if event["event"] == "end"]
            raise MethodUnavailable(f"{stage} was not trained: {ends[-1]['sentence'] if ends else done.stderr[-500:]}")
        shutil.rmtree(work)

    # --- datasets

    def _rows(self, stage: Stage) -> Iterable[Mapping[str, object]]:
        """What the stage learns from: D, D_comp, D_pol or the ranked lists of PRO."""
        if stage is Stage.SFT:
            return build_d(self._eligible(), self._options, Drops())
        if stage is Stage.DPO:
            pairs = list(self._eligible(for_preferences=True))
            return build_d_comp(grouped(pairs, self._options), self._options, Drops())
        build = build_d_pol if stage is Stage.POL else build_ranked_pol
        return build(self._own_queries(), self._options, Drops())

    def _eligible(self, *, is_held_out: bool = False, for_preferences: bool = False) -> Iterator[Pair]:
        pairs = (pair for pair in self._pairs if _is_held_out(pair.id) == is_held_out)
        return eligible(pairs, self._options, Drops(), for_preferences=for_preferences)

    @cached_property
    def _pairs(self) -> list[Pair]:
        """(c, k) of the simulated log, with the verdicts that it holds."""
        placed = [pair for report in self._training.reports for pair in self._placed(report)]
        evidence = self._evidence([pair.key for pair in placed])
        return [replace(pair, evidence=evidence[pair.key]) for pair in placed]

    def _placed(self, report: LabelledReport) -> Iterator[Pair]:
        rules = self._training.analysis
        for number, query in enumerate(logged_queries(self._training)[report.id]):
            key = rules.key(query, MatchMode.PHRASE)
            places = rules.find(report.text, key, MatchMode.PHRASE)
            if places:
                phrase = report.text[slice(*places[0])]
                yield Pair(f"{report.id}/{number}", report.text, phrase, key, policy=report.category)

    def _evidence(self, keys: Sequence[str]) -> dict[str, Evidence]:
        """What the log says of each key: judged matches and toxic ones, without the reports that gave the key."""
        judged = set(rows_of(self._training, LearnFrom.LOGGED))
        beginnings = {part for key in set(keys) for part in accumulate(key.split(), "{} {}".format)}
        items = [item for item in self._training.items if item.id in judged]
        table = frequencies(beginnings, items, self._training.analysis)
        gave = Counter(keys)
        return {
            key: Evidence(
                toxic=table[key].toxic - gave[key],
                judged=table[key].items - gave[key],
                shown=table[key].items - gave[key],
            )
            for key in gave
        }

    def _own_queries(self) -> Iterator[Scored]:
        """The SFT model's queries for the train reports, scored by what they retrieve."""
        reported = [
            ReportedText(report.id, report.text, report.category, report.item)
            for report in self._training.reports
            if not _is_held_out(report.id)
        ]
        drawn = draw(reported, self._model, self._loaded(Stage.SFT), self._options)
        return score_by_risk(drawn, self._training.searcher.msearch, self._risks)

    def _risks(self, items: Collection[int]) -> Mapping[int, float]:
        return {item: self._risk_of_each[item] for item in items}

    @cached_property
    def _risk_of_each(self) -> dict[int, float]:
        """r(d) of every train item under the risk model of the log, fitted on these items itself."""
        items = self._training.items
        scores = self._risk.score(item.text for item in items).tolist()
        return dict(zip((item.id for item in items), scores, strict=True))

    def _distinct(self, proposed: Iterable[Proposed]) -> list[Proposed]:
        """The first 10 that the suite's engine would not take for one another."""
        found: dict[str, Proposed] = {}
        for one in proposed:
            key = self._training.analysis.key(one.text, MatchMode.PHRASE)
            if key:
                found.setdefault(key, one)
        return list(found.values())[:CANDIDATES]

    def _digest(self) -> str:
        """Of all that the models depend on beside the seed: the train split and the settings of the trainings."""
        digest = hashlib.sha256()
        for item in self._training.items:
            digest.update(f"{item.id} {item.toxic} {item.text}\n".encode())
        for report in self._training.reports:
            digest.update(f"{report.id} {report.text} {report.human_phrases}\n".encode())
        settings = [asdict(PROFILES[PROFILE]), *(config.write() for config in self._configs.values())]
        digest.update(json.dumps([*settings, self._options.as_json()], sort_keys=True).encode())
        return digest.hexdigest()


def _recipe_configs() -> dict[Stage, TrainConfig]:
    sft, dpo = load_recipe(RECIPE).steps
    own, lists = (load_recipe(name).steps[1] for name in (RECIPE_OWN, RECIPE_LISTS))
    return {Stage.SFT: sft.config, Stage.DPO: dpo.config, Stage.POL: own.config, Stage.PRO: lists.config}


def _with(config: TrainConfig, seed: int, epochs: int | None) -> TrainConfig:
    return replace(config, seed=seed, epochs=epochs or config.epochs)


def _is_held_out(report: str) -> bool:
    """A tenth of the train reports, by the id of the report or of a pair of it."""
    return hashlib.sha256(report.partition("/")[0].encode()).digest()[0] % HELD_OUT_OF == 0
