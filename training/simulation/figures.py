"""The figures of a round, from the log (SPEC section 7, online) and from the labels."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from audit.models import Decision, DecisionKind, Exposure, Judgment, QueryRun, QuerySource, Verdict
from training.simulation.auditor import Worked


def of_round(worked: Sequence[Worked]) -> dict[str, Any]:
    """What came of these reports. `found`: toxic items by report, in the order in which the reports came."""
    reviewed, found = sum(one.reviewed for one in worked), sum(len(one.found) for one in worked)
    return {
        "reports": len(worked),
        "confirmed": sum(one.is_confirmed for one in worked),
        "reviewed": reviewed,
        "toxic_found": found,
        "toxic_per_1000": round(1000 * found / reviewed, 1) if reviewed else 0.0,
        "wrongly_removed": sum(len(one.wrong) for one in worked),
        "found": [len(one.found) for one in worked],
        **_decisions([one.report for one in worked]),
        **_increments([one.exploration for one in worked if one.exploration is not None]),
    }


def _decisions(reports: Sequence[int]) -> dict[str, Any]:
    """Acceptance by who proposed, as [accepted, decided]; an edited suggestion counts as accepted."""
    rows = Decision.objects.standing().filter(report__in=reports)
    counts: Counter[tuple[str, bool]] = Counter()
    edited = own = equal = 0
    for kind, proposer, source in rows.values_list("kind", "suggestion__proposer", "source"):
        if kind == DecisionKind.OWN:
            own += 1
            continue
        counts[proposer, kind != DecisionKind.REJECTED] += 1
        edited += kind == DecisionKind.EDITED
        equal += kind == DecisionKind.ACCEPTED and source == QuerySource.HUMAN
    proposers = sorted({proposer for proposer, _accepted in counts})
    return {
        "own_queries": own,
        "acceptance": {
            proposer: [counts[proposer, True], counts[proposer, True] + counts[proposer, False]]
            for proposer in proposers
        },
        "edited": edited,
        "equal_to_own": equal,
    }


def _increments(explorations: Sequence[int]) -> dict[str, Any]:
    """Hits of people's queries, and what only queries of a model found in the same exploration.

    Deviation from SPEC section 7: a hit is an item that was judged toxic in this exploration; what was judged before
    is shown at the end, and is nobody's find.
    """
    toxic = set(
        Judgment.objects.standing()
        .filter(exposure__run__exploration_query__exploration__in=explorations, verdict=Verdict.TOXIC)
        .values_list("exposure__run__exploration_query__exploration_id", "item_text_id")
    )
    is_human = _human_queries(explorations)
    of_human: set[tuple[int, int]] = set()
    of_model: set[tuple[int, int]] = set()
    hit_queries: dict[bool, set[int]] = {True: set(), False: set()}
    for exploration, query, text in _exposed(explorations):
        if (exploration, text) in toxic:
            (of_human if query in is_human else of_model).add((exploration, text))
            hit_queries[query in is_human].add(query)
    return {
        "hits_of_own": len(of_human),
        "hits_of_model_only": len(of_model - of_human),
        "hit_queries_own": len(hit_queries[True]),
        "hit_queries_model": len(hit_queries[False]),
        "queries_run": QueryRun.objects.filter(exploration_query__exploration__in=explorations).count(),
    }


def _human_queries(explorations: Sequence[int]) -> set[int]:
    """The exploration queries that serve at least one decision of a person's own."""
    rows = Decision.objects.filter(
        exploration_queries__exploration__in=explorations, source=QuerySource.HUMAN
    ).values_list("exploration_queries", flat=True)
    return set(rows)


def _exposed(explorations: Sequence[int]) -> Iterable[tuple[int, int, int]]:
    """(exploration, exploration query, item text) of everything shown."""
    return Exposure.objects.filter(run__exploration_query__exploration__in=explorations).values_list(
        "run__exploration_query__exploration_id", "run__exploration_query_id", "item_text_id"
    )
