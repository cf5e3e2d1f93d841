"""One row per exposure with the full chain, from the complaints to the return of a removed item.

A run may serve several decisions, of several reports. The row is still one row, so that counting rows counts exposures;
the decisions stand in lists that are all of one length and one order (by decision id), a report stands once for each of
its decisions. Whoever wants one row for each (exposure, decision) unrolls the lists; summing over those credits an
exposure to every decision that found it.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from audit.logs.columns import (
    ColumnType,
    Row,
    Scalar,
    as_is,
    boolean,
    filled,
    integer,
    number,
    query,
    text,
    time,
    user,
)
from audit.logs.privacy import Privacy
from audit.logs.reading import Stream
from audit.logs.streams import item_columns, text_columns
from audit.models import Decision, Exposure, Judgment, QuerySource, Removal, RemovalKind, StandingVerdict, Verdict

# --- the decisions that a run serves --------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Served:
    """A list column of the decisions: its name, type, sentence, ORM path and, where people are in it, its reading."""

    name: str
    type: ColumnType
    about: str
    path: str
    read: Any = as_is


_SERVED = (
    _Served("decision_ids", ColumnType.INTEGERS, "Decisions that the query serves, in id order.", "pk"),
    _Served("decision_uuids", ColumnType.TEXTS, "Their public ids.", "public_id"),
    _Served("decision_kinds", ColumnType.TEXTS, "accepted, edited or own.", "kind"),
    _Served("decision_texts", ColumnType.TEXTS, "As each auditor wrote it; contact data masked.", "text", Privacy.text),
    _Served("decision_sources", ColumnType.TEXTS, "Who made the query, by this decision: human or model.", "source"),
    _Served(
        "decision_undone_by_ids", ColumnType.INTEGERS, "Decision that took it back; none: stands.", "undone_by__id"
    ),
    _Served("decision_arms", ColumnType.TEXTS, "Arm of the claim: visible or own_first.", "arm"),
    _Served("decision_users", ColumnType.TEXTS, "Who decided (pseudonyms).", "user_id", Privacy.user),
    _Served("decision_times", ColumnType.TIMES, "When.", "at"),
    _Served("decision_durations_ms", ColumnType.INTEGERS, "How long each took, milliseconds.", "duration_ms"),
    _Served("shown_ranks", ColumnType.INTEGERS, "Rank of the suggestion on the screen; none: own query.", "shown_rank"),
    _Served("forecast_matches", ColumnType.INTEGERS, "Shown forecast: live matches.", "matches"),
    _Served(
        "forecast_is_about", ColumnType.BOOLEANS, "Shown forecast: the engine could not count exactly.", "is_about"
    ),
    _Served("forecast_unseen", ColumnType.INTEGERS, "Shown forecast: never exposed, of the first 100.", "unseen"),
    _Served("forecast_overlaps", ColumnType.INTEGERS, "Shown forecast: shown by other queries too.", "overlap"),
    _Served("forecast_past_toxic", ColumnType.INTEGERS, "Shown forecast: toxic of the judged matches.", "past_toxic"),
    _Served("forecast_past_judged", ColumnType.INTEGERS, "Shown forecast: judged matches.", "past_judged"),
    _Served("suggestion_ids", ColumnType.INTEGERS, "Suggestion decided on; none: own query.", "suggestion_id"),
    _Served(
        "suggestion_texts",
        ColumnType.TEXTS,
        "What was suggested; contact data masked.",
        "suggestion__text",
        Privacy.text,
    ),
    _Served("suggesters", ColumnType.TEXTS, "Who suggested.", "suggestion__batch__suggester"),
    _Served("suggester_versions", ColumnType.TEXTS, "Its version.", "suggestion__batch__suggester_version"),
    _Served("report_ids", ColumnType.INTEGERS, "Report of each decision.", "report_id"),
    _Served("report_uuids", ColumnType.TEXTS, "Its public id.", "report__public_id"),
    _Served("report_policies", ColumnType.TEXTS, "Its policy.", "report__policy__key"),
    _Served("report_outcomes", ColumnType.TEXTS, "Its outcome; none: open.", "report__outcome"),
    _Served("report_complaint_counts", ColumnType.INTEGERS, "Complaints it collected.", "report__complaint_count"),
    _Served("report_item_ids", ColumnType.INTEGERS, "Reported item.", "report__item_id"),
    _Served("report_text_hashes", ColumnType.TEXTS, "SHA-256 of the reported text.", "report__item_text__text_hash"),
)

_Lists = dict[str, list[Scalar]]


def _fill_decisions(rows: list[Row], privacy: Privacy) -> None:
    lists_of = _decision_lists(_numbers(rows, "exploration_query_id"), privacy)
    nothing: _Lists = {served.name: [] for served in _SERVED}
    for row in rows:
        lists = lists_of.get(row["exploration_query_id"], nothing)
        row.update(lists)
        row["decision_count"] = len(lists["decision_ids"])
        row["report_count"] = len(set(lists["report_ids"]))
        row["source"] = _source(lists["decision_sources"])


def _decision_lists(places: set[int], privacy: Privacy) -> dict[object, _Lists]:
    """The list columns of each place in an exploration; rows of one run share the lists."""
    lists_of: dict[object, _Lists] = {}
    decisions = (
        Decision.objects.filter(exploration_queries__in=places)
        .order_by("pk")
        .values_list("exploration_queries", *(served.path for served in _SERVED))
    )
    for place, *values in decisions:
        lists = lists_of.setdefault(place, {served.name: [] for served in _SERVED})
        for served, value in zip(_SERVED, values, strict=True):
            lists[served.name].append(served.read(privacy, value))
    return lists_of


def _source(sources: list[Scalar]) -> str | None:
    """A query that a human also made counts as human (SPEC section 7)."""
    for source in (QuerySource.HUMAN, QuerySource.MODEL):
        if source in sources:
            return source.value
    return None


# --- what was judged ------------------------------------------------------------------------------------------------

_STRENGTH = (Verdict.TOXIC, Verdict.NORMAL, Verdict.CANT_TELL)


def _fill_standing(rows: list[Row], _privacy: Privacy) -> None:
    """The standing verdict of the text, over all policies: toxic under any of them is toxic, as for the removal."""
    standing: dict[object, list[tuple[Any, ...]]] = defaultdict(list)
    verdicts = StandingVerdict.objects.filter(item_text__in=_numbers(rows, "item_text_id")).order_by("judgment_id")
    for text_id, *values in verdicts.values_list(
        "item_text_id",
        "verdict",
        "is_disputed",
        "judgment_id",
        "judgment__at",
        "policy_version__policy__key",
        "policy_version__number",
    ):
        standing[text_id].append(tuple(values))
    for row in rows:
        found = standing.get(row["item_text_id"], [])
        row["is_disputed"] = any(is_disputed for _verdict, is_disputed, *_rest in found)
        verdict, _disputed, *rest = _strongest(found)
        row["verdict"], row["is_hit"] = verdict, verdict == Verdict.TOXIC
        row["verdict_judgment_id"], row["verdict_at"], row["verdict_policy"], row["verdict_policy_version"] = rest


def _strongest(found: list[tuple[Any, ...]]) -> tuple[Any, ...]:
    for verdict in _STRENGTH:
        of_it = [values for values in found if values[0] == verdict]
        if of_it:
            return of_it[-1]
    return (None,) * 6


def _fill_judgments(rows: list[Row], privacy: Privacy) -> None:
    """The newest judgment made on this very exposure that nobody took back, and how many were."""
    stands: dict[int, tuple[Any, ...]] = {}
    undone: dict[int, int] = defaultdict(int)
    made = Judgment.objects.filter(exposure__in=_numbers(rows, "exposure_id")).exclude(verdict="").order_by("pk")
    for exposure_id, undone_by, *values in made.values_list(
        "exposure_id",
        "undone_by__id",
        "id",
        "public_id",
        "verdict",
        "at",
        "duration_ms",
        "policy_version__policy__key",
        "policy_version__number",
        "user_id",
    ):
        if undone_by is None:
            stands[exposure_id] = tuple(values)
        else:
            undone[exposure_id] += 1
    for row in rows:
        exposure = int(row["exposure_id"])  # type: ignore[arg-type]
        row["judgments_undone"] = undone[exposure]
        if exposure in stands:
            row.update(zip(_JUDGMENT, (as_is(privacy, value) for value in stands[exposure]), strict=False))
            row["judge"] = privacy.user(stands[exposure][-1])


_JUDGMENT = (
    "judgment_id",
    "judgment_uuid",
    "judgment",
    "judged_at",
    "judgment_duration_ms",
    "judgment_policy",
    "judgment_policy_version",
)

# --- what became of the item ----------------------------------------------------------------------------------------


def _fill_removals(rows: list[Row], _privacy: Privacy) -> None:
    newest: dict[tuple[int, str], tuple[datetime, int | None]] = {}
    removals = Removal.objects.filter(item__in=_numbers(rows, "item_id")).order_by("pk")
    for item_id, kind, at, judgment_id in removals.values_list("item_id", "kind", "at", "judgment_id"):
        newest[item_id, kind] = (at, judgment_id)
    for row in rows:
        item = int(row["item_id"])  # type: ignore[arg-type]
        row["removed_at"], row["removal_judgment_id"] = newest.get((item, RemovalKind.REMOVED), (None, None))
        row["reinstated_at"], _judgment = newest.get((item, RemovalKind.REINSTATED), (None, None))


def _numbers(rows: Iterable[Row], name: str) -> set[int]:
    return {int(row[name]) for row in rows}  # type: ignore[arg-type]


# --- the stream -----------------------------------------------------------------------------------------------------

FLAT = Stream(
    name="flat",
    version=1,
    about="One row per exposure with the full chain, as it stood at the moment of the export.",
    model=Exposure,
    columns=(
        integer("exposure_id", "Exposure; one row each.", "id"),
        time("exposed_at", "When its page was opened.", "at"),
        user("exposed_to", "Who saw it", "user_id"),
        integer("rank", "Rank in the run, from 1."),
        integer("page", "Page of the results that showed it, from 1."),
        integer("position", "Place among the results of the exploration, from 1."),
        *item_columns(),
        text("item_state", "live, removed or gone.", "item__state"),
        *text_columns(),
        *query("run__query__"),
        integer("run_id", "Run.", "run_id"),
        time("run_at", "When the run ended.", "run__at"),
        text("engine", "Search engine.", "run__engine"),
        text("index_generation", "State of the index.", "run__index_generation"),
        text("index_analysis", "Analysis that the index was built with.", "run__analysis"),
        integer("risk_version", "Risk model that ordered the matches; none: by time.", "run__risk_version"),
        integer("run_live", "Matches of the run that were live.", "run__live"),
        integer("run_removed", "Matches of the run that were already removed.", "run__removed"),
        boolean("run_is_about", "True where the engine could not count exactly.", "run__is_about"),
        number("run_took_ms", "How long the run took, milliseconds.", "run__took_ms"),
        integer("exploration_id", "Exploration.", "run__exploration_query__exploration_id"),
        text("exploration_uuid", "Its public id.", "run__exploration_query__exploration__public_id"),
        time("exploration_at", "When it was asked for.", "run__exploration_query__exploration__at"),
        integer("exploration_query_id", "Place of the query in it.", "run__exploration_query_id"),
        filled("source", ColumnType.TEXT, "human where any of the decisions is human, else model."),
        filled("decision_count", ColumnType.INTEGER, "Decisions that the query serves: the length of each list."),
        filled("report_count", ColumnType.INTEGER, "Different reports among them."),
        *(filled(served.name, served.type, served.about) for served in _SERVED),
        filled(
            "verdict",
            ColumnType.TEXT,
            "Standing verdict of the text: toxic (any policy), normal, cant_tell; none: unjudged.",
        ),
        filled("is_hit", ColumnType.BOOLEAN, "True where that verdict is toxic. False is not normal: see verdict."),
        filled("is_disputed", ColumnType.BOOLEAN, "True where two people differ under some policy: unjudged there."),
        filled(
            "verdict_judgment_id", ColumnType.INTEGER, "Judgment that the verdict rests on, maybe of another exposure."
        ),
        filled("verdict_at", ColumnType.TIME, "When that was made."),
        filled("verdict_policy", ColumnType.TEXT, "Key of the policy it was made under."),
        filled("verdict_policy_version", ColumnType.INTEGER, "Number of that policy's version."),
        filled("judgment_id", ColumnType.INTEGER, "Newest judgment on this exposure itself that was not taken back."),
        filled("judgment_uuid", ColumnType.TEXT, "Its public id."),
        filled("judgment", ColumnType.TEXT, "Its verdict: toxic, normal or cant_tell."),
        filled("judged_at", ColumnType.TIME, "When."),
        filled("judgment_duration_ms", ColumnType.INTEGER, "How long it took, milliseconds."),
        filled("judgment_policy", ColumnType.TEXT, "Key of the policy."),
        filled("judgment_policy_version", ColumnType.INTEGER, "Number of the policy's version."),
        filled("judge", ColumnType.TEXT, "Who judged (pseudonym)."),
        filled("judgments_undone", ColumnType.INTEGER, "Judgments on this exposure that were taken back."),
        filled("removed_at", ColumnType.TIME, "Newest removal of the item; none: never removed."),
        filled("removal_judgment_id", ColumnType.INTEGER, "Judgment that caused that removal."),
        filled("reinstated_at", ColumnType.TIME, "Newest return of the item; none: never reinstated."),
    ),
    fills=(_fill_decisions, _fill_standing, _fill_judgments, _fill_removals),
)
