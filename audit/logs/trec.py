"""What was shown, and what was judged of it, as the tools of information retrieval read it: TREC run and qrels files.

A topic is a query run: one query against one state of the index. That is what hit(k|S) and p(k|S) are defined on, and
what a rank was logged for. (A report is no topic: its queries overlap, and nobody saw them as one ranking. The log
`runs` names the reports of each run, by which figures of topics are added up.) A document is an item text, since that
is what a judgment is about. The run file holds the exposures: what was never opened has no rank that anybody saw.

Its score is one over the rank: tools order by the score alone, and logged risks can be equal.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from audit.logs.columns import Column, ColumnType, Row, filled
from audit.logs.privacy import Privacy
from audit.logs.reading import ALWAYS, START, Chunk, Cursor, Part, Stream, Window
from audit.models import Decision, ExportFormat, Exposure, QueryRun, QuerySource, StandingVerdict, Verdict

RUNS = 20
"""Query runs that are unrolled together: each has some tens of lines, at most QX_RUN_KEEP."""

TEXTS = 5_000
"""SQLite takes no more variables in one statement than some tens of thousands."""

HUMAN = "human"
NOBODY = "none"


def topic(run_id: int) -> str:
    return f"run-{run_id}"


def document(item_text_id: int) -> str:
    return f"text-{item_text_id}"


@dataclass(frozen=True)
class TrecStream(Stream):
    """The lines of query runs, run by run in id order, each run's by rank."""

    unroll: Callable[[dict[int, int]], list[Row]] = field(kw_only=True)
    """From {run: its place in an exploration} to their lines."""

    def chunks(
        self,
        privacy: Privacy,
        window: Window = ALWAYS,
        *,
        after: Cursor = START,
        upto: int | None = None,
        size: int = RUNS,
    ) -> Iterator[Chunk]:
        for found in self.pages(["exploration_query_id"], window, after=after[0], upto=upto, size=size):
            yield Chunk(self.unroll(dict(found)), (found[-1][0], 0))


def _ranked(runs: dict[int, int]) -> list[Row]:
    tags = _tags(runs)
    return [
        {
            "query": topic(run),
            "q0": "Q0",
            "document": document(text),
            "rank": rank,
            "score": 1 / rank,
            "tag": tags.get(run, NOBODY),
        }
        for run, rank, text in _shown(runs)
    ]


def _judged(runs: dict[int, int]) -> list[Row]:
    shown = _shown(runs)
    relevance = relevance_of({text for _run, _rank, text in shown})
    return [
        {"query": topic(run), "iteration": 0, "document": document(text), "relevance": relevance[text]}
        for run, _rank, text in shown
        if text in relevance
    ]


def _shown(runs: dict[int, int]) -> list[tuple[int, int, int]]:
    """(run, rank, item text) of every exposure of these runs."""
    exposures = Exposure.objects.filter(run__in=runs).order_by("run", "rank")
    return list(exposures.values_list("run_id", "rank", "item_text_id"))


def relevance_of(texts: set[int]) -> dict[int, int]:
    """Standing verdicts: 1 toxic (under any policy), 0 normal. Can't tell, a disagreement and no verdict: left out."""
    relevance: dict[int, int] = {}
    ordered = sorted(texts)
    for start in range(0, len(ordered), TEXTS):
        some = ordered[start : start + TEXTS]
        verdicts = StandingVerdict.objects.filter(item_text__in=some, verdict__in=[Verdict.TOXIC, Verdict.NORMAL])
        for text, verdict in verdicts.values_list("item_text_id", "verdict"):
            relevance[text] = max(relevance.get(text, 0), int(verdict == Verdict.TOXIC))
    return relevance


def _tags(runs: dict[int, int]) -> dict[int, str]:
    """Who made the query of each run: human where any of its decisions is human, else of the suggestion that was
    decided on first.
    """
    makers: dict[int, list[str]] = defaultdict(list)
    decisions = Decision.objects.filter(exploration_queries__in=runs.values()).order_by("pk")
    for place, source, proposer, version in decisions.values_list(
        "exploration_queries", "source", "suggestion__proposer", "suggestion__batch__suggester_version"
    ):
        makers[place].append(HUMAN if source == QuerySource.HUMAN else "_".join(f"{proposer}:{version}".split()))
    return {run: _tag(makers[place]) for run, place in runs.items() if place in makers}


def _tag(makers: list[str]) -> str:
    return HUMAN if HUMAN in makers else makers[0]


_TOPIC = filled("query", ColumnType.TEXT, "Topic: `run-` and the run_id of the log `runs`.")
_DOCUMENT = filled("document", ColumnType.TEXT, "Document: `text-` and the item_text_id of the log `exposures`.")


def _stream(name: str, about: str, columns: tuple[Column, ...], unroll: Any) -> TrecStream:
    return TrecStream(
        name=name,
        version=1,
        about=about,
        model=QueryRun,
        columns=columns,
        part=Part.TREC,
        formats=(ExportFormat.TREC,),
        unroll=unroll,
    )


RUN_FILE = _stream(
    "trec_run",
    "Run file: what each query run showed. The window counts by when the run ended.",
    (
        _TOPIC,
        filled("q0", ColumnType.TEXT, "Always Q0."),
        _DOCUMENT,
        filled("rank", ColumnType.INTEGER, "Rank in the run, from 1."),
        filled("score", ColumnType.NUMBER, "One over the rank."),
        filled(
            "tag",
            ColumnType.TEXT,
            "Who made the query: human where any decision that it serves is human, else proposer and suggester version "
            "of the suggestion that was decided on first; none: no decision.",
        ),
    ),
    _ranked,
)

QRELS = _stream(
    "trec_qrels",
    "Qrels: the standing verdicts on what each query run showed; what is unjudged, can't tell or disputed is absent.",
    (
        _TOPIC,
        filled("iteration", ColumnType.INTEGER, "Always 0."),
        _DOCUMENT,
        filled("relevance", ColumnType.INTEGER, "1 toxic (under any policy), 0 normal."),
    ),
    _judged,
)
