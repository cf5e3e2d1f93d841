"""U@5 on reports and items that no loop has touched: the test split of the suite, on *std* and on *fresh*.

The measure and the play are those of the benchmark (docs/benchmark.md). Two things are measured: an adapter alone (its
first query of each report, the most confident first), and what the site suggests: the phrases of `search` under the
risk model that serves, and the queries of the adapter that serves, tried on the index and played together.
"""

import json
from pathlib import Path

from extraction.generation import Proposed
from extraction.models import Adapter, AdapterRole
from extraction.registry import adapter_in, serving_risk
from extraction.risk import RiskModel
from extraction.search import Counts, Hit, SearchPage, SearchRequest
from extraction.search.fts5 import Fts5Engine
from extraction.suggest import candidates, merge, proposed_candidates
from training import metrics
from training.benchmark.choice import Choice, Query, best_of_each
from training.benchmark.searcher import Searcher
from training.benchmark.suggester import played, try_and_score
from training.benchmark.suites import OLDEST, IndexKind, Suite, Task, TaskReport, Training, documents
from training.proposing import Proposers
from training.simulation.settings import Plan

KINDS = (IndexKind.STD, IndexKind.FRESH)


class _Remembering(Fts5Engine):
    """An index that nobody changes: what a phrase finds in it is searched for once, whoever asks in whichever round."""

    def __init__(self, path: Path, answers: Path) -> None:
        super().__init__(path)
        self._place = answers
        self._answers: dict[str, list[int]] = json.loads(answers.read_text()) if answers.exists() else {}

    def search(self, request: SearchRequest) -> SearchPage:
        """A page with the number of live matches and the ids alone."""
        asked = f"{request.mode} {request.order} {request.size} {request.text}"
        if asked not in self._answers:
            page = super().search(request)
            self._answers[asked] = [page.counts.live, *(hit.id for hit in page.hits)]
        live, *ids = self._answers[asked]
        hits = tuple(Hit(id_, None, OLDEST, True, ()) for id_ in ids)
        return SearchPage(hits, Counts(live, 0, 0, 0), True, self.name, "", 0.0)

    def keep(self) -> None:
        """Write the answers beside the index, whole at any time."""
        beside = self._place.with_suffix(".new")
        beside.write_text(json.dumps(self._answers, ensure_ascii=False))
        beside.replace(self._place)


class Untouched:
    """The test split with its indexes, which are built in `shared` when first asked for."""

    def __init__(self, suite: Suite, plan: Plan, shared: Path) -> None:
        self._suite = suite
        reports = suite.reports_of("test")
        every = -(-len(reports) // plan.tests)
        self._reports = tuple(TaskReport(report.id, report.text) for report in reports[::every])
        self._engines: list[_Remembering] = []
        self._tasks = {kind: self._task(kind, shared) for kind in KINDS}
        self._proposers = Proposers()
        self._proposed: dict[int, list[list[Proposed]]] = {}

    def close(self) -> None:
        """Keep what was searched for: the next round asks for most of it again."""
        for engine in self._engines:
            engine.keep()

    def of_adapter(self, adapter: Adapter) -> dict[str, float]:
        """U@5 of an adapter alone, by index."""
        firsts = [[(one.confidence, one.text) for one in own[:1]] for own in self._queries(adapter)]
        return {kind: self._u_at_5(best_of_each(task, firsts), kind) for kind, task in self._tasks.items()}

    def of_site(self) -> dict[str, float]:
        """U@5 of what the site would suggest now, by index."""
        serving = serving_risk()
        assert serving is not None  # noqa: S101 - the warm-up fitted one
        adapter = adapter_in(AdapterRole.SERVING)
        return {kind: self._u_at_5(self._played(task, serving[1], adapter), kind) for kind, task in self._tasks.items()}

    def _played(self, task: Task, risk: RiskModel, adapter: Adapter | None) -> Choice:
        proposed = self._queries(adapter) if adapter else [[] for _report in self._reports]
        phrases = [
            merge(
                candidates(report.text, analysis=task.analysis, risk=risk),
                proposed_candidates(
                    report.text, [(one.start, one.end, one.confidence) for one in own], analysis=task.analysis
                ),
            )
            for report, own in zip(self._reports, proposed, strict=True)
        ]
        return played(task, try_and_score(task, risk, phrases))

    def _queries(self, adapter: Adapter) -> list[list[Proposed]]:
        if adapter.pk not in self._proposed:
            texts = [report.text for report in self._reports]
            model = self._proposers(adapter)
            self._proposed[adapter.pk] = model.propose(texts, [adapter.name] * len(texts))
        return self._proposed[adapter.pk]

    def _u_at_5(self, choice: Choice, kind: IndexKind) -> float:
        task = self._tasks[kind]
        rankings = [_ranking(query, task.searcher) for query in choice.queries]
        return metrics.unique_at(rankings, self._suite.answers("test", kind).verdicts, budget=task.budget)

    def _task(self, kind: IndexKind, shared: Path) -> Task:
        items = self._suite.index_of("test", kind)
        engine = _Remembering(shared / f"test-{kind}.sqlite3", shared / f"test-{kind}.found.json")
        if not engine.health().is_ready:
            engine.rebuild(documents(items), analysis=self._suite.analysis.name)
        self._engines.append(engine)
        searcher = Searcher(engine, self._suite.analysis, {item.id: item.text for item in items})
        return Task(
            reports=self._reports,
            searcher=searcher,
            training=Training((), (), self._suite.analysis, lambda: searcher),
            analysis=self._suite.analysis,
            budget=metrics.REVIEWED_PER_REPORT * len(self._reports),
            work=shared,
        )


def _ranking(query: Query, searcher: Searcher) -> metrics.Ranking:
    return metrics.Ranking(query.report, query.text, searcher.find(query.text).ids)
