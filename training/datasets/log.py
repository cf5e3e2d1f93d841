"""Read what the builders need from the log as it stood at one moment, in a few queries and with flat memory.

Everything comes from rows that are only ever added (decisions, judgments, exposures, report events), so that builds of
the same `until` read the same however long the log has grown since; only what was erased is gone. Rows come sorted and
are read in step with each other. What stays in memory: the verdict of each judged text (9 bytes), the different phrases
that people decided for, and their counts.
"""

import heapq
from array import array
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from functools import cached_property
from itertools import groupby
from operator import itemgetter
from typing import Any, NamedTuple, TypeVar

from django.db.models import Exists, OuterRef, Q, QuerySet

from audit.models import (
    Decision,
    DecisionKind,
    Exposure,
    ItemText,
    Judgment,
    Outcome,
    Proposer,
    Query,
    QuerySource,
    Report,
    ReportEvent,
    ReportEventKind,
    Verdict,
)
from extraction.text import Analysis, MatchMode
from training import near
from training.datasets.pairs import DropReason, Drops, Evidence, Pair
from training.datasets.phrases import Phrases
from training.datasets.policy import ReportedText
from training.models import EvaluationSet

TO_RUN = (DecisionKind.ACCEPTED, DecisionKind.EDITED, DecisionKind.OWN)

Progress = Callable[[str, int], None]
"""Called with the name of a step and how many rows it has passed, every thousand rows. It may raise, to end a build."""

_TICK = 1_000
_FETCH = 2_000
Rows = Iterable[tuple[Any, ...]]
T = TypeVar("T")


def ticking(rows: Iterable[T], step: str, progress: Progress) -> Iterator[T]:
    """The same rows, with progress told on the way."""
    for number, row in enumerate(rows):
        if number % _TICK == 0:
            progress(step, number)
        yield row


class Log:
    """The log before `until`; ask within one `audit.logs.reading.snapshot()`.

    A text that lies in a near-duplicate cluster with one of the evaluation set `excluded` stays out.
    """

    def __init__(self, until: datetime, rules: Analysis, excluded: EvaluationSet | None, progress: Progress) -> None:
        self._until, self._rules, self._progress = until, rules, progress
        self._evaluation = excluded
        self._verdicts = Verdicts(standing_verdicts(self._read("judgments", self._judgments())))

    def pairs(self, drops: Drops) -> Iterator[Pair]:
        """(c, k) of every standing decision (accepted, edited or own) of a confirmed report, in the order of reports.

        One pair a report and phrase; a phrase that a person made too counts as human. Each decision is in a pair or
        counted in `drops`.
        """
        phrases, number_of = self._decided_phrases()
        evidence = self._evidence(phrases, number_of, self._giving_items(number_of))
        confirmed = _InStep(self._confirmed())
        for report, rows in groupby(self._read("decisions", self._decisions()), key=itemgetter(0)):
            policy = next((policy for _report, policy in confirmed.of(report)), None)
            found: dict[str, Pair] = {}
            for row in rows:
                pair = self._pair(_Decided(*row), policy, phrases, number_of, evidence)
                if isinstance(pair, DropReason):
                    drops[pair] += 1
                    continue
                known = found.get(pair.key)
                if known is not None:
                    drops[DropReason.REPEATED] += 1
                if known is None or (known.source, pair.source) == (QuerySource.MODEL, QuerySource.HUMAN):
                    found[pair.key] = pair
            yield from found.values()

    def reported_texts(self, drops: Drops, newest: int) -> list[ReportedText]:
        """The texts of the newest confirmed reports, each text once, oldest first; for D_pol."""
        confirmed = _InStep(self._confirmed())
        kept: deque[ReportedText] = deque(maxlen=newest)
        seen: set[int] = set()
        for pk, item, text_id, text in _streamed(self._judged_reports()):
            policy = next((policy for _report, policy in confirmed.of(pk)), None)
            reason = self._refusal(policy, text_id, text) or (DropReason.REPEATED if hash(text) in seen else None)
            if reason is not None:
                drops[reason] += 1
                continue
            seen.add(hash(text))
            if len(kept) == newest:
                drops[DropReason.BEYOND_LIMIT] += 1  # the oldest makes room
            kept.append(ReportedText(str(pk), text, policy or "", item))
        return list(kept)

    def evidence_of(self, phrases: Phrases, giving: Iterable[tuple[int, int]]) -> "Findings":
        """What was found by phrases that nobody need have decided for. `giving`: (item id, number of a phrase)."""
        queries = self._decided_queries()
        numbers = ((pk, phrases.number_of(text, MatchMode(mode))) for pk, text, mode in queries)
        number_of = {pk: number for pk, number in numbers if number is not None}
        return self._evidence(phrases, number_of, sorted(set(giving)))

    def _evidence(self, phrases: Phrases, number_of: dict[int, int], giving: Rows) -> "Findings":
        """p(k|S) of each numbered phrase (SPEC section 2), with its counts.

        Counted are items that some query exposed and that have a verdict, for each phrase that matches them, whichever
        phrase exposed them: the second of two near-equal phrases is not blamed for coming second. A reported item that
        no query exposed is left out: it was chosen by its complaints, and would make every phrase of toxic reports look
        toxic. A phrase matches an item if it stands in its exposed text, or if it exposed it itself (an erased text
        matches nothing any more); of several judged texts of an item the newest that matches counts.

        `number_of`: query id → number; `giving`: (item id, number) by item, the items whose reports gave the phrase,
        which never count for it.
        """
        findings = Findings(len(phrases))
        exposures = self._read("exposures", self._exposures())
        merged = heapq.merge(
            ((item, _GIVING, number) for item, number in giving),
            ((item, _EXPOSED, text, number_of[query]) for item, text, query in exposures if query in number_of),
            ((item, _JUDGED, text_id, text) for item, text_id, text in self._read("texts", self._judged_texts())),
        )
        for _item, rows in groupby(merged, key=itemgetter(0)):
            self._note_item(rows, phrases, findings)
        return findings

    def _note_item(self, rows: Rows, phrases: Phrases, findings: "Findings") -> None:
        giving: set[int] = set()
        matched: dict[int, set[int]] = {}
        shown: set[int] = set()
        for _item, kind, *values in rows:
            if kind == _GIVING:
                giving.add(values[0])
            elif kind == _EXPOSED:
                shown.add(values[1])
                matched.setdefault(values[0], set()).add(values[1])
            else:
                matched.setdefault(values[0], set()).update(phrases.found_in(values[1]))
        verdicts: dict[int, bool] = {}
        for text_id in sorted(matched):
            verdict = self._verdicts.of(text_id)
            if verdict is not None:
                verdicts.update(dict.fromkeys(matched[text_id], verdict))
        findings.add(shown - giving, {number: toxic for number, toxic in verdicts.items() if number not in giving})

    def _pair(
        self,
        row: "_Decided",
        policy: str | None,
        phrases: Phrases,
        number_of: dict[int, int],
        evidence: "Findings",
    ) -> Pair | DropReason:
        if row.undone is not None and row.undone < self._until:
            return DropReason.UNDONE
        refusal = self._refusal(policy, row.text_id, row.text)
        if refusal is not None:
            return refusal
        number = number_of.get(row.query)
        place = None if number is None else self._place(row, phrases.key_of(number))
        if number is None or place is None:
            return DropReason.NOT_IN_TEXT
        start, end, is_mapped = place
        mode, key = row.mode, phrases.key_of(number)
        return Pair(
            id=f"{row.report}-{row.id}",
            text=row.text,
            phrase=row.text[start:end],
            key=key if mode == MatchMode.PHRASE else f"{mode}\n{key}",
            policy=policy or "",
            source=row.source,
            suggester=_suggester(row) if row.kind == DecisionKind.ACCEPTED else "",
            kind=row.kind,
            is_mapped=is_mapped,
            evidence=evidence.of(number),
        )

    def _refusal(self, policy: str | None, text_id: int, text: str) -> DropReason | None:
        """Why a reported text gives nothing. A report of which the verdict is disputed now is not confirmed."""
        if policy is None or self._verdicts.of(text_id) is not True:
            return DropReason.UNCONFIRMED
        if text_id in self._excluded:
            return DropReason.EVALUATION
        return None if text else DropReason.ERASED

    def _place(self, row: "_Decided", key: str) -> tuple[int, int, bool] | None:
        """(start, end, was it mapped) of the phrase in the text: as the decision says, else where it first matches."""
        mode = MatchMode(row.mode)
        if row.start is not None and row.end is not None:
            marked = row.text[row.start : row.end]
            if self._rules.key(marked, mode) == key:
                return row.start, row.end, False
        found = self._rules.find(row.text, key, mode)
        return (*found[0], True) if found else None

    # --- rows -------------------------------------------------------------------------------------------------------

    def _read(self, step: str, rows: QuerySet[Any, Any]) -> Iterator[tuple[Any, ...]]:
        return ticking(_streamed(rows), step, self._progress)

    def _judgments(self) -> QuerySet[Any, Any]:
        order = ("item_text_id", "policy_version_id", "pk")
        rows = self._standing().order_by(*order)
        return rows.values_list("item_text_id", "policy_version_id", "user_id", "verdict", "pool_item_id")

    def _standing(self) -> QuerySet[Judgment]:
        """Judgments that nobody had taken back before `until`.

        Never asked for inside EXISTS: PostgreSQL takes them for one row there, and would read all judgments again for
        each text.
        """
        return self._made().filter(Q(undone_by=None) | Q(undone_by__at__gte=self._until))

    def _made(self) -> QuerySet[Judgment]:
        return Judgment.objects.filter(at__lt=self._until).exclude(verdict="")

    def _confirmed(self) -> Iterator[tuple[int, str]]:
        """(report id, key of the policy that it was confirmed under), by report id.

        The newest standing verdict on the reported text, made on the report, is toxic, and the report was not closed
        with another outcome than confirmed.
        """
        judged = self._standing().exclude(report=None).order_by("report_id", "pk")
        closings = ReportEvent.objects.filter(
            kind__in=[ReportEventKind.CLOSED, ReportEventKind.REOPENED], at__lt=self._until
        ).order_by("report_id", "pk")
        outcomes = _InStep(_streamed(closings.values_list("report_id", "outcome")))
        rows = _streamed(judged.values_list("report_id", "verdict", "policy_version__policy__key"))
        for report, own in groupby(rows, key=itemgetter(0)):
            _report, verdict, policy = list(own)[-1]
            closed_as = [outcome for _report, outcome in outcomes.of(report)][-1:]
            if verdict == Verdict.TOXIC and closed_as in ([], [""], [Outcome.CONFIRMED]):
                yield report, policy

    def _to_run(self) -> QuerySet[Decision]:
        return Decision.objects.filter(kind__in=TO_RUN, at__lt=self._until)

    def _decisions(self) -> QuerySet[Any, Any]:
        return self._to_run().order_by("report_id", "pk").values_list(*_PATHS)

    def _decided_phrases(self) -> tuple[Phrases, dict[int, int]]:
        """The different phrases that people decided for, and the number of each query's."""
        phrases = Phrases(self._rules)
        numbers = ((pk, phrases.add(text, MatchMode(mode))) for pk, text, mode in self._decided_queries())
        return phrases, {pk: number for pk, number in numbers if number is not None}

    def _decided_queries(self) -> Iterator[tuple[Any, ...]]:
        queries = Query.objects.filter(Exists(self._to_run().filter(query=OuterRef("pk")))).order_by("pk")
        return _streamed(queries.values_list("pk", "text", "mode"))

    def _judged_reports(self) -> QuerySet[Any, Any]:
        judged = Exists(self._made().filter(report=OuterRef("pk")))
        reports = Report.objects.filter(judged).order_by("pk")
        return reports.values_list("pk", "item_id", "item_text_id", "item_text__text")

    def _giving_items(self, number_of: dict[int, int]) -> Iterator[tuple[int, int]]:
        """(item id, number of a phrase that was decided for in a report about it), by item."""
        rows = self._to_run().order_by("report__item_id").values_list("report__item_id", "query_id")
        return ((item, number_of[query]) for item, query in _streamed(rows) if query in number_of)

    def _exposures(self) -> QuerySet[Any, Any]:
        rows = Exposure.objects.filter(at__lt=self._until).order_by("item_id", "item_text_id")
        return rows.values_list("item_id", "item_text_id", "run__query_id")

    def _judged_texts(self) -> QuerySet[Any, Any]:
        """Texts that some query exposed and somebody judged."""
        exposed = Exists(Exposure.objects.filter(item_text=OuterRef("pk"), at__lt=self._until))
        judged = Exists(self._made().filter(item_text=OuterRef("pk")))
        return ItemText.objects.filter(exposed, judged).order_by("item_id", "pk").values_list("item_id", "pk", "text")

    @cached_property
    def _excluded(self) -> frozenset[int]:
        """Ids of the reported texts that lie in a near-duplicate cluster with a text of the evaluation set."""
        if self._evaluation is None:
            return frozenset()
        frozen = [text_id for _report, text_id in self._evaluation.reports]
        seeds: list[str] = []
        for start in range(0, len(frozen), _FETCH):
            chunk = ItemText.objects.filter(pk__in=frozen[start : start + _FETCH]).order_by("pk")
            seeds += chunk.values_list("text", flat=True)
        judged = Exists(self._made().filter(item_text=OuterRef("pk")).exclude(report=None))
        texts = ItemText.objects.filter(judged).order_by("pk").values_list("pk", "text")
        reported = ((pk, text) for pk, text in self._read("reports", texts) if self._verdicts.of(pk) is True)
        return near.near_to(seeds, reported, analysis=self._rules) | frozenset(frozen)


_GIVING, _EXPOSED, _JUDGED = range(3)


class _Decided(NamedTuple):
    """A decision with what a pair needs of it, as `_PATHS` asks for it."""

    report: int
    id: int
    kind: str
    query: int
    mode: str
    start: int | None
    end: int | None
    source: str
    undone: datetime | None
    text_id: int
    text: str
    proposer: str | None
    suggester: str | None
    adapter: str | None


_PATHS = (
    "report_id",
    "pk",
    "kind",
    "query_id",
    "query__mode",
    "span_start",
    "span_end",
    "source",
    "undone_by__at",
    "report__item_text_id",
    "report__item_text__text",
    "suggestion__proposer",
    "suggestion__batch__suggester",
    "suggestion__batch__adapter__name",
)


def _suggester(row: _Decided) -> str:
    """ "search", the name of an adapter, or both joined by a plus where both proposed the phrase."""
    names = {
        Proposer.SEARCH.value: [row.suggester],
        Proposer.MODEL.value: [row.adapter or row.suggester],
        Proposer.BOTH.value: [row.suggester, row.adapter],
    }[row.proposer or Proposer.SEARCH.value]
    return "+".join(name for name in names if name)


# --- verdicts and findings ------------------------------------------------------------------------------------------


def standing_verdicts(rows: Rows) -> Iterator[tuple[int, bool]]:
    """(item text id, is it toxic) of the judged texts, from their standing judgments: (text id, policy version id, user
    id, verdict, pool item id), sorted by text, version and age.

    Of each person the newest counts; under one version two that differ are a disagreement. Toxic under any version is
    toxic, as for the removal; else a text with a disagreement is unjudged, and so is one that nobody could tell. What
    was judged for the pool of an evaluation alone is unjudged here: nothing of an evaluation set is trained on.
    """
    for text, own in groupby(rows, key=itemgetter(0)):
        agreed: set[str] = set()
        is_disputed, is_of_the_loop = False, False
        for _version, judgments in groupby(own, key=itemgetter(1)):
            newest = {user: (verdict, pool) for _text, _version, user, verdict, pool in judgments}
            verdicts = {verdict for verdict, _pool in newest.values()}
            is_of_the_loop |= any(pool is None for _verdict, pool in newest.values())
            is_disputed |= len(verdicts) > 1
            agreed |= verdicts if len(verdicts) == 1 else set()
        is_toxic = Verdict.TOXIC in agreed
        if is_of_the_loop and (is_toxic or (Verdict.NORMAL in agreed and not is_disputed)):
            yield text, is_toxic


class Verdicts:
    """The verdicts on item texts, given in the order of their ids."""

    def __init__(self, verdicts: Iterable[tuple[int, bool]]) -> None:
        self._ids, self._toxic = array("q"), bytearray()
        for text, is_toxic in verdicts:
            self._ids.append(text)
            self._toxic.append(is_toxic)

    def of(self, text: int) -> bool | None:
        """True for toxic, False for normal, None for unjudged."""
        at = bisect_left(self._ids, text)
        return bool(self._toxic[at]) if at < len(self._ids) and self._ids[at] == text else None


class Findings:
    """Counts of each numbered phrase."""

    def __init__(self, count: int) -> None:
        self._toxic, self._judged, self._shown = (array("q", bytes(8 * count)) for _ in range(3))

    def add(self, shown: Iterable[int], verdicts: dict[int, bool]) -> None:
        """One more item: the phrases that exposed it, and its verdict for those that match it."""
        for number in shown:
            self._shown[number] += 1
        for number, is_toxic in verdicts.items():
            self._judged[number] += 1
            self._toxic[number] += is_toxic

    def of(self, number: int) -> Evidence:
        return Evidence(self._toxic[number], self._judged[number], self._shown[number])


class _InStep:
    """Rows sorted by their first column, read in step with other rows: keys are asked for in ascending order."""

    def __init__(self, rows: Rows) -> None:
        self._groups = groupby(rows, key=itemgetter(0))
        self._key: int | None = None
        self._rows: Rows = ()
        self._advance()

    def of(self, key: int) -> list[tuple[Any, ...]]:
        """The rows of this key; ask once."""
        while self._key is not None and self._key < key:
            self._advance()
        return list(self._rows) if self._key == key else []

    def _advance(self) -> None:
        self._key, self._rows = next(self._groups, (None, ()))


def _streamed(rows: QuerySet[Any, Any]) -> Iterator[tuple[Any, ...]]:
    return rows.iterator(chunk_size=_FETCH)
