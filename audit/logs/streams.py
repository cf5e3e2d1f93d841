"""The streams of the loop: each arrow of SPEC section 3 as rows that are only ever added.

Two of them show the newest state of a row that changes (reports, explorations); their history is in report_events,
exploration_queries and runs.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from audit.logs.columns import (
    Column,
    ColumnType,
    Row,
    Value,
    boolean,
    filled,
    integer,
    number,
    query,
    text,
    time,
    typed,
    user,
)
from audit.logs.privacy import Privacy
from audit.logs.reading import Stream
from audit.models import (
    Complaint,
    Decision,
    Exploration,
    ExplorationQuery,
    Exposure,
    Generation,
    Judgment,
    OutboxEvent,
    PolicyVersion,
    QueryRun,
    Removal,
    Report,
    ReportEvent,
    Suggestion,
    SuggestionBatch,
)
from extraction.models import AdapterPromotion, RiskPromotion

_POLICY = "Key of the policy."


def _external_id(paths: tuple[str, str], read: Callable[..., Value]) -> Column:
    about = "The platform's own id; masked: a pseudonym that can be counted and joined."
    return Column("external_id", ColumnType.TEXT, about, paths, read)


def item_columns() -> tuple[Column, ...]:
    """The item of a row that has `item`, without its text."""
    return (
        integer("item_id", "Item."),
        text("item_uuid", "Public id of the item.", "item__public_id"),
        text("platform", "Platform of the item.", "item__platform"),
        _external_id(("item__platform", "item__external_id"), Privacy.item),
        Column(
            "author",
            ColumnType.TEXT,
            "Who published it (pseudonym).",
            ("item__platform", "item__author_key"),
            Privacy.author,
        ),
        time("item_created", "When the platform published it.", "item__created"),
    )


def text_columns() -> tuple[Column, ...]:
    """The item text of a row that has `item_text`: digests and language, never the text."""
    return (
        integer("item_text_id", "Version of the item's text."),
        text("text_hash", "SHA-256 of that text.", "item_text__text_hash"),
        text("norm_hash", "Digest of its phrase key: equal for texts that match each other.", "item_text__norm_hash"),
        text("language", "Language of that text.", "item_text__language"),
    )


def forecast_columns(shown: str) -> tuple[Column, ...]:
    """The forecast of a query, `shown` says when."""
    return (
        integer("matches", f"Live matches, {shown}."),
        boolean("is_about", "True where the engine could not count exactly."),
        integer("unseen", f"Of the first 100 matches, those never exposed, {shown}."),
        integer("overlap", f"Of the first 100 matches, those another accepted query shows, {shown}."),
        integer("past_toxic", f"Judged matches that were toxic, {shown}."),
        integer("past_judged", f"Judged matches, removed ones included, {shown}."),
    )


def span_columns() -> tuple[Column, ...]:
    return (
        integer("span_start", "First code point of the phrase in the reported text; none: not in it."),
        integer("span_end", "Code point after the phrase."),
    )


def _of_payload(key: str) -> Callable[..., Value]:
    def read(_privacy: Privacy, payload: Mapping[str, Any]) -> Value:
        value = payload.get(key)
        return None if value in (None, "") else str(value)

    return read


def _payload_reason(privacy: Privacy, payload: Mapping[str, Any]) -> Value:
    return privacy.text(str(payload.get("reason") or ""))


def _payload(name: str, about: str, key: str) -> Column:
    return Column(name, ColumnType.TEXT, about, ("payload",), _of_payload(key))


# --- fill steps -----------------------------------------------------------------------------------------------------


def served(places: Iterable[int]) -> dict[int, list[tuple[int, int]]]:
    """For each of these places in explorations: the (decision, report) pairs that it serves, in decision order."""
    found = defaultdict(list)
    pairs = (
        Decision.objects.filter(exploration_queries__in=set(places))
        .order_by("pk")
        .values_list("exploration_queries", "pk", "report_id")
    )
    for place, decision, report in pairs:
        found[place].append((decision, report))
    return found


def fill_served(rows: list[Row], _privacy: Privacy) -> None:
    pairs_of = served(int(row["exploration_query_id"]) for row in rows)  # type: ignore[arg-type]
    for row in rows:
        pairs = pairs_of.get(row["exploration_query_id"], [])  # type: ignore[arg-type]
        row["decision_ids"] = [decision for decision, _report in pairs]
        row["report_ids"] = [report for _decision, report in pairs]


SERVED_COLUMNS = (
    filled("decision_ids", ColumnType.INTEGERS, "Decisions that it serves, in id order."),
    filled("report_ids", ColumnType.INTEGERS, "The report of each of them, in the same order."),
)


# --- what the platform sent -----------------------------------------------------------------------------------------

POLICIES = Stream(
    name="policies",
    version=1,
    about="Every wording of every policy. Judgments name the version that they were made under.",
    model=PolicyVersion,
    columns=(
        integer("policy_version_id", "This version.", "id"),
        text("policy", _POLICY, "policy__key"),
        text("name", "Name of the policy, as it is now.", "policy__name"),
        integer("policy_version", "Number of the version, from 1.", "number"),
        text("text", "The rule."),
        text("toxic", "What is toxic under it."),
        text("normal", "What is normal under it."),
        text("cant_tell", "When nobody can tell."),
        time("at", "When the version was written."),
    ),
)

COMPLAINTS = Stream(
    name="complaints",
    version=1,
    about="One user's word about an item. The window counts from when it came in, not from when it was said.",
    model=Complaint,
    time="imported",
    columns=(
        integer("complaint_id", "Complaint.", "id"),
        integer("report_id", "Report that collects it."),
        *text_columns(),
        text("platform", "Platform it came from."),
        _external_id(("platform", "external_id"), Privacy.complaint),
        Column(
            "reporter", ColumnType.TEXT, "Who complained (pseudonym).", ("platform", "reporter_key"), Privacy.reporter
        ),
        typed("reason", "What they wrote; contact data masked."),
        text("policy", "Key of the policy that they chose.", "policy__key"),
        time("at", "When they complained."),
        time("imported", "When it came in."),
    ),
)

REPORTS = Stream(
    name="reports",
    version=1,
    about="Reports in their newest state; what happened to each is in report_events.",
    model=Report,
    time="opened",
    columns=(
        integer("report_id", "Report; R-7 is number 7.", "id"),
        text("report_uuid", "Public id of the report.", "public_id"),
        *item_columns(),
        *text_columns(),
        text("policy", "Key of its policy, corrected where an auditor did so.", "policy__key"),
        text("status", "waiting, claimed, exploring or closed."),
        text("outcome", "confirmed, unfounded, skipped or escalated; none while open."),
        integer("previous_id", "Earlier report about the same item."),
        integer("complaint_count", "Complaints collected so far."),
        text("arm", "visible, or own_first: suggestions shown after the auditor's own queries."),
        text("suggestions_state", "pending, ready, none, failed or off."),
        integer("batch_id", "Batch of suggestions that is shown."),
        user("claimed_by", "Who holds it or held it last", "claimed_by_id"),
        time("opened", "When it was opened."),
        time("due", "When it is due."),
        time("confirmed", "When the reported text was judged toxic."),
        time("revealed", "When suggestions were first shown."),
        time("closed", "When it was closed."),
    ),
)

REPORT_EVENTS = Stream(
    name="report_events",
    version=1,
    about="What happened to a report, when and by whom.",
    model=ReportEvent,
    columns=(
        integer("report_event_id", "Event.", "id"),
        integer("report_id", "Report."),
        text("kind", "opened, claimed, released, judged, policy, revealed, closed or reopened."),
        user("user", "Who did it; none: the system", "user_id"),
        text("arm", "Arm of the claim, where it began."),
        text("policy", "The policy it was corrected to.", "policy__key"),
        text("outcome", "Outcome, where it was closed."),
        typed("reason", "Reason given; contact data masked."),
        time("at", "When."),
    ),
)

# --- suggestion and decision ----------------------------------------------------------------------------------------


def _of_spans(name: str, kind: ColumnType, about: str, place: int) -> Column:
    """One figure of each span of a generation, best first."""
    return Column(name, kind, about, ("spans",), lambda _privacy, spans: [span[place] for span in spans])


GENERATIONS = Stream(
    name="generations",
    version=1,
    about="What an adapter proposes for a text, ahead of the auditor; a shadow's are shown to nobody.",
    model=Generation,
    columns=(
        integer("generation_id", "Generation.", "id"),
        *text_columns(),
        integer("item_id", "Item of that text.", "item_text__item_id"),
        integer("adapter_id", "Adapter."),
        text("adapter", "Its name.", "adapter__name"),
        text("base", "Name of the base model that it sits on.", "adapter__base__name"),
        _of_spans("span_starts", ColumnType.INTEGERS, "Where each phrase begins in the text, code points.", 0),
        _of_spans("span_ends", ColumnType.INTEGERS, "Where each ends.", 1),
        _of_spans("confidences", ColumnType.NUMBERS, "Mean log-probability of each phrase's tokens, nats.", 2),
        number("took_ms", "Its share of the time that its batch took, milliseconds."),
        time("at", "When it was written."),
    ),
)

SUGGESTION_BATCHES = Stream(
    name="suggestion_batches",
    version=2,
    about="Each time a suggester worked on a report, also when it found nothing worth suggesting.",
    model=SuggestionBatch,
    columns=(
        integer("batch_id", "Batch.", "id"),
        integer("report_id", "Report."),
        *text_columns(),
        text("policy", _POLICY, "policy_version__policy__key"),
        integer("policy_version", "Number of the policy's version.", "policy_version__number"),
        text("suggester", "Who suggested: search, llm, or search+llm."),
        text("suggester_version", "Its version: of the risk model, and the adapter's name."),
        integer("adapter_id", "Adapter whose queries are in it; none: of search alone."),
        text("adapter_role", "Why that adapter: serving or challenger."),
        text("index_generation", "State of the index that the phrases were tried on."),
        integer("tried", "Phrases tried."),
        time("at", "When."),
    ),
)

SUGGESTIONS = Stream(
    name="suggestions",
    version=2,
    about="Every query that a suggester proposed, with its forecast and what ordered it; shown or not.",
    model=Suggestion,
    time="batch__at",
    columns=(
        integer("suggestion_id", "Suggestion.", "id"),
        text("suggestion_uuid", "Public id of the suggestion.", "public_id"),
        integer("batch_id", "Batch it belongs to."),
        integer("report_id", "Report."),
        text("suggester", "Who suggested.", "batch__suggester"),
        text("suggester_version", "Its version.", "batch__suggester_version"),
        text("index_generation", "State of the index that it was tried on.", "batch__index_generation"),
        *query(),
        typed("text", "As it stands in the reported text; contact data masked."),
        *span_columns(),
        text("proposer", "search, model (an adapter alone), or both."),
        number("confidence", "Mean log-probability of its tokens under the adapter, nats; none: of search alone."),
        integer("rank", "Rank in its batch, from 1."),
        number("estimate", "Expected share of toxic among what it retrieves; orders, never shown."),
        number("novelty", "Share of that which other queries do not show; orders, never shown."),
        *forecast_columns("when it was suggested"),
        time("at", "When its batch was written.", "batch__at"),
    ),
)

DECISIONS = Stream(
    name="decisions",
    version=1,
    about="One word of an auditor about one query: accepted, edited, rejected, own, or an earlier one undone.",
    model=Decision,
    columns=(
        integer("decision_id", "Decision.", "id"),
        text("decision_uuid", "Public id of the decision.", "public_id"),
        integer("report_id", "Report."),
        integer("suggestion_id", "Suggestion decided on; none: an own query."),
        text("suggester", "Who suggested.", "suggestion__batch__suggester"),
        text("suggester_version", "Its version.", "suggestion__batch__suggester_version"),
        text("kind", "accepted, edited, rejected, own or undone."),
        integer("undoes_id", "The decision that this one takes back."),
        integer("undone_by_id", "The decision that took this one back, up to now.", "undone_by__id"),
        text("source", "Who made the query that would run: human or model; none: nothing would."),
        *query(),
        typed("text", "The text decided for; contact data masked."),
        *span_columns(),
        integer("shown_rank", "Rank as it stood on the screen."),
        *forecast_columns("as it stood on the screen"),
        text("arm", "Arm of the claim: visible or own_first."),
        user("user", "Who decided", "user_id"),
        integer("duration_ms", "From when it could be seen to the decision, milliseconds."),
        time("at", "When."),
    ),
)

# --- exploration and outcome ----------------------------------------------------------------------------------------

EXPLORATIONS = Stream(
    name="explorations",
    version=1,
    about="Tasks in their newest state; their queries are in exploration_queries.",
    model=Exploration,
    columns=(
        integer("exploration_id", "Exploration; E-7 is number 7.", "id"),
        text("exploration_uuid", "Public id of the exploration.", "public_id"),
        user("user", "Who started it", "created_by_id"),
        text("state", "queued, running, done or failed."),
        integer("pages_opened", "Pages of results opened so far."),
        time("at", "When it was asked for."),
        time("started", "When it began."),
        time("finished", "When it ended."),
    ),
)

EXPLORATION_QUERIES = Stream(
    name="exploration_queries",
    version=1,
    about="Each query of an exploration with the decisions that it serves; also those that could not run.",
    model=ExplorationQuery,
    time="exploration__at",
    columns=(
        integer("exploration_query_id", "Place of the query in the exploration.", "id"),
        integer("exploration_id", "Exploration."),
        *query(),
        integer("position", "Its place, from 1."),
        text("state", "queued, running, done or failed."),
        integer("run_id", "Its run; none before it ended.", "run__id"),
        *SERVED_COLUMNS,
        time("at", "When the exploration was asked for.", "exploration__at"),
    ),
    fills=(fill_served,),
)

RUNS = Stream(
    name="runs",
    version=1,
    about="One query against one state of the index, written when it ended. A run without a match is here too.",
    model=QueryRun,
    columns=(
        integer("run_id", "Run.", "id"),
        integer("exploration_id", "Exploration.", "exploration_query__exploration_id"),
        integer("exploration_query_id", "Its place in the exploration."),
        *query(),
        text("engine", "Search engine."),
        text("index_generation", "State of the index."),
        text("analysis", "Analysis that the index was built with."),
        integer("risk_version", "Risk model that ordered the matches; none: by time."),
        integer("live", "Matches that were live."),
        integer("removed", "Matches already removed."),
        boolean("is_about", "True where the engine could not count exactly."),
        Column(
            "item_ids",
            ColumnType.INTEGERS,
            "Ranked items that were kept, best first.",
            ("ranking",),
            # On an attached site a run keeps external ids: those items have no row, and no id, until they are shown.
            lambda _privacy, ranking: [ref for ref, *_risk in ranking if isinstance(ref, int)],
        ),
        number("took_ms", "How long it took, milliseconds."),
        *SERVED_COLUMNS,
        time("at", "When it ended."),
    ),
    fills=(fill_served,),
)

EXPOSURES = Stream(
    name="exposures",
    version=1,
    about="Each item shown for a query. An item that several queries found is shown once and logged for each.",
    model=Exposure,
    columns=(
        integer("exposure_id", "Exposure.", "id"),
        integer("run_id", "Run."),
        integer("rank", "Rank in the run, from 1."),
        integer("page", "Page of the results that showed it, from 1."),
        integer("position", "Place among the results of the exploration, from 1."),
        *item_columns(),
        *text_columns(),
        user("user", "Who saw it", "user_id"),
        time("at", "When its page was opened."),
    ),
)

JUDGMENTS = Stream(
    name="judgments",
    version=2,
    about="Each verdict, and each taking back of one.",
    model=Judgment,
    columns=(
        integer("judgment_id", "Judgment.", "id"),
        text("judgment_uuid", "Public id of the judgment.", "public_id"),
        *text_columns(),
        integer("item_id", "Item of that text.", "item_text__item_id"),
        text("policy", _POLICY, "policy_version__policy__key"),
        integer("policy_version", "Number of the policy's version.", "policy_version__number"),
        text("verdict", "toxic, normal or cant_tell; none: this row takes one back."),
        integer("undoes_id", "The judgment that this one takes back."),
        integer("undone_by_id", "The judgment that took this one back, up to now.", "undone_by__id"),
        integer("exposure_id", "Exposure that it was made on; none: something else."),
        integer("report_id", "Report that it was made on; none: something else."),
        integer("pool_item_id", "Pooled text of an evaluation that it was made on; none: something else."),
        typed("reason", "Reason given; contact data masked."),
        user("judge", "Who judged", "user_id"),
        integer("duration_ms", "How long it took, milliseconds."),
        time("at", "When."),
    ),
)

REMOVALS = Stream(
    name="removals",
    version=1,
    about="An item leaves the results, or comes back.",
    model=Removal,
    columns=(
        integer("removal_id", "Removal or reinstatement.", "id"),
        *item_columns(),
        text("kind", "removed or reinstated."),
        integer("judgment_id", "Judgment that caused it."),
        user("user", "Who caused it", "user_id"),
        typed("reason", "Reason given; contact data masked."),
        time("at", "When."),
    ),
)

OUTBOX = Stream(
    name="outbox",
    version=1,
    about="What the platform is told. An event has a sequence number once it is published.",
    model=OutboxEvent,
    columns=(
        integer("event_id", "Event.", "id"),
        text("event_uuid", "Public id of the event.", "public_id"),
        integer("sequence", "Its number in the feed; none: not published yet.", "publication__sequence"),
        *item_columns(),
        text("kind", "verdict, removed or reinstated."),
        _payload("verdict", "Standing verdict it tells: toxic, normal, cant_tell, disputed or none.", "verdict"),
        _payload("judgment_uuid", "Public id of the judgment behind it.", "judgment"),
        _payload("policy", _POLICY, "policy"),
        _payload("policy_version", "Number of the policy's version.", "policy_version"),
        _payload("text_hash", "SHA-256 of the judged text.", "text_hash"),
        Column("reason", ColumnType.TEXT, "Reason given; contact data masked.", ("payload",), _payload_reason),
        time("at", "When it was written."),
        time("published", "When it was published.", "publication__at"),
    ),
)

RISK_PROMOTIONS = Stream(
    name="risk_promotions",
    version=1,
    about="Each time a risk model began to serve.",
    model=RiskPromotion,
    columns=(
        integer("risk_promotion_id", "Promotion.", "id"),
        integer("risk_version", "Version of the model that serves from now on.", "model__version"),
        text("digest", "SHA-256 of its weights.", "model__digest"),
        boolean("is_rollback", "True where an earlier model was taken up again."),
        typed("reason", "Reason given; contact data masked."),
        user("user", "Who did it; none: the check let it pass", "user_id"),
        time("at", "When."),
    ),
)

ADAPTER_PROMOTIONS = Stream(
    name="adapter_promotions",
    version=1,
    about="Each time an adapter took a role (serving, challenger, shadow) or left it empty.",
    model=AdapterPromotion,
    columns=(
        integer("adapter_promotion_id", "Promotion.", "id"),
        text("role", "serving, challenger or shadow."),
        integer("adapter_id", "Adapter that has the role from now on; none: nobody."),
        text("adapter", "Its name.", "adapter__name"),
        text("digest", "Digest of its weights.", "adapter__digest"),
        text("base", "Name of the base model that it sits on.", "adapter__base__name"),
        number("share", "Share of the reports that a challenger serves."),
        boolean("is_rollback", "True where an earlier adapter was taken up again."),
        typed("reason", "Reason given; contact data masked."),
        user("user", "Who did it; none: the system", "user_id"),
        time("at", "When."),
    ),
)
