"""What learning leaves for research, beside the logs: builds and their rows, adapter cards, evaluations.

The rows of a build are the only export that holds texts of items. They go out under the rules of the logs: contact data
is masked part by part, and prompt and answers are made anew from what is left, so that they agree with each other.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from typing import Any

from django.db.models import Q

from audit.logs.columns import Column, ColumnType, Row, Value, filled, integer, json_value, text, time, user
from audit.logs.privacy import Privacy
from audit.logs.reading import ALWAYS, START, TABLES, Chunk, Cursor, Part, Stream, Window
from audit.models import ExportFormat, JobState
from extraction.artifacts import open_artifact
from extraction.models import Adapter
from extraction.prompts import CURRENT_PROMPT, Prompt, answer, get_prompt, messages
from extraction.text import get_analysis
from training.models import Dataset, DatasetKind, Evaluation

LINES = 500
"""Lines of a build that are read together: each may hold some thousand characters."""

# --- rows of builds -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Masked:
    """One line of a build as it may leave: `shown` are queries as they may be seen, `said` the answer made of them."""

    line: Mapping[str, Any]
    prompt: Prompt
    privacy: Privacy

    @cached_property
    def content(self) -> str:
        """Its texts one by one, so that a mark between two of them hides no contact data and makes none."""
        parts, at = [], 0
        for length in self.line["lengths"]:
            parts.append(self.privacy.text(self.line["content"][at : at + length]) or "")
            at += length + len(self.prompt.separator)
        return self.prompt.separator.join(parts)

    def shown(self, queries: Sequence[str]) -> list[str]:
        return [self._as_in_content(self.privacy.text(query) or "") for query in queries]

    def _as_in_content(self, query: str) -> str:
        """A text that was masked is written as the normaliser reads it; then a query of it has to be so too."""
        normalised = get_analysis().normalise(query)
        return normalised if query not in self.content and normalised in self.content else query

    def said(self, queries: Sequence[str]) -> list[dict[str, str]]:
        return [{"role": "assistant", "content": answer(self.shown(queries), self.prompt)}]


@dataclass(frozen=True)
class RowStream(Stream):
    """Every line of the finished builds of some kinds. The window counts by when a build was finished."""

    kinds: Sequence[DatasetKind] = field(kw_only=True)
    read: Callable[[_Masked], Row] = field(kw_only=True)

    def chunks(
        self,
        privacy: Privacy,
        window: Window = ALWAYS,
        *,
        after: Cursor = START,
        upto: int | None = None,
        size: int = LINES,
    ) -> Iterator[Chunk]:
        key, done = after
        first = key - 1 if done else key
        for page in self.pages(["name", "kind", "digest", "options"], window, after=first, upto=upto, size=size):
            for pk, name, kind, digest, options in page:
                prompt = get_prompt(options.get("prompt_version", CURRENT_PROMPT))
                skip = done if pk == key else 0
                for start, lines in _lines(digest, skip, size):
                    rows = [
                        {"dataset": name, "kind": kind, "line": number}
                        | _common(masked := _Masked(json.loads(line), prompt, privacy))
                        | self.read(masked)
                        for number, line in enumerate(lines, start + 1)
                    ]
                    yield Chunk(rows, (pk, start + len(rows)))
                yield Chunk([], (pk, 0))


def _lines(digest: str, skip: int, size: int) -> Iterator[tuple[int, list[bytes]]]:
    """(lines before them, lines) of a stored build after its first `skip` lines. Raises DamagedArtifact."""
    with open_artifact(digest) as file:
        left = islice(iter(file), skip, None)
        while lines := list(islice(left, size)):
            yield skip, lines
            skip += len(lines)


def _common(masked: _Masked) -> Row:
    line, content = masked.line, masked.content
    return {
        "sample": line["id"],
        "policy": line["policy"],
        "source": line["source"],
        "prompt_version": masked.prompt.version,
        "content": content,
        "prompt": messages(content, masked.prompt),
    }


def _sft(masked: _Masked) -> Row:
    queries = masked.line["queries"]
    return {"queries": masked.shown(queries), "completion": masked.said(queries)}


def _preference(masked: _Masked) -> Row:
    row: Row = {}
    for side in ("chosen", "rejected"):
        queries, scores = masked.line[f"{side}_queries"], masked.line[f"{side}_scores"]
        row |= {
            f"{side}_queries": masked.shown(queries),
            side: masked.said(queries),
            f"{side}_scores": [score for score, _count in scores],
            f"{side}_counts": [count for _score, count in scores],
        }
    return row


def _ranked(masked: _Masked) -> Row:
    lists, scores = masked.line["candidate_queries"], masked.line["candidate_scores"]
    return {
        "candidate_queries": [masked.shown(queries) for queries in lists],
        "candidates": [masked.said(queries) for queries in lists],
        "candidate_scores": [score for score, _count in scores],
        "candidate_counts": [count for _score, count in scores],
        "rewards": masked.line["rewards"],
    }


_COMMON = (
    filled("dataset", ColumnType.TEXT, "Name of the build."),
    filled("kind", ColumnType.TEXT, "Its kind."),
    filled("line", ColumnType.INTEGER, "Line in its file, from 1."),
    filled("sample", ColumnType.TEXT, "report_id and decision_id of its first pair (D_pol: of the report)."),
    filled("policy", ColumnType.TEXT, "Key of the policy."),
    filled("source", ColumnType.TEXT, "Who made the queries: human, model or mixed."),
    filled("prompt_version", ColumnType.TEXT, "Version of the prompt."),
    filled("content", ColumnType.TEXT, "The reported text, or several joined; contact data masked."),
    filled("prompt", ColumnType.MESSAGES, "What the model is asked, made of `content`."),
)


def _side(side: str, about: str) -> tuple[Column, ...]:
    return (
        filled(f"{side}_queries", ColumnType.TEXTS, f"The {about} queries; contact data masked."),
        filled(side, ColumnType.MESSAGES, "They as an answer."),
        filled(f"{side}_scores", ColumnType.NUMBERS, "p(k|S) of each, or s(q) for D_pol by risk."),
        filled(f"{side}_counts", ColumnType.INTEGERS, "Items that each of these rests on."),
    )


def _row_stream(
    name: str, about: str, kinds: Sequence[DatasetKind], columns: tuple[Column, ...], read: Callable[[_Masked], Row]
) -> RowStream:
    return RowStream(
        name=name,
        version=1,
        about=f"{about} Holds texts of items.",
        model=Dataset,
        columns=(*_COMMON, *columns),
        time="finished",
        only=Q(state=JobState.DONE, kind__in=kinds, withdrawn=None),
        part=Part.LEARNING,
        has_texts=True,
        kinds=kinds,
        read=read,
    )


SFT_ROWS = _row_stream(
    "sft_rows",
    "Pairs of D, samples of D_cat and D + D_cat: one row a line of a finished build.",
    [DatasetKind.SFT, DatasetKind.CAT, DatasetKind.UNION],
    (
        filled("queries", ColumnType.TEXTS, "The queries; contact data masked."),
        filled("completion", ColumnType.MESSAGES, "They as an answer."),
    ),
    _sft,
)

PREFERENCE_ROWS = _row_stream(
    "preference_rows",
    "Preference pairs of D_comp, D_comp2 and D_pol: one row a line of a finished build.",
    [DatasetKind.COMP, DatasetKind.COMP2, DatasetKind.POL],
    (*_side("chosen", "preferred"), *_side("rejected", "dispreferred")),
    _preference,
)

RANKED_ROWS = _row_stream(
    "ranked_rows",
    "Ranked lists for PRO: one row a line of a finished build.",
    [DatasetKind.LIST],
    (
        filled("candidate_queries", ColumnType.TEXT_LISTS, "Queries of each candidate, best first; masked."),
        filled("candidates", ColumnType.MESSAGE_LISTS, "Each as an answer."),
        filled("candidate_scores", ColumnType.NUMBERS, "p(k|S) or s(q) of each."),
        filled("candidate_counts", ColumnType.INTEGERS, "Items that each of these rests on."),
        filled("rewards", ColumnType.NUMBERS, "The scores brought to [0, 1] within the list."),
    ),
    _ranked,
)


def rows_stream(dataset: Dataset) -> RowStream:
    """Where the rows of a build are."""
    return next(stream for stream in (SFT_ROWS, PREFERENCE_ROWS, RANKED_ROWS) if dataset.kind in stream.kinds)


# --- cards and figures ----------------------------------------------------------------------------------------------

DATASETS = Stream(
    name="datasets",
    version=1,
    about="Finished builds with their cards; their rows are in sft_rows, preference_rows and ranked_rows.",
    model=Dataset,
    columns=(
        integer("dataset_id", "Build.", "id"),
        text("dataset", "Its name.", "name"),
        text("kind", "sft (D), cat (D_cat), union (D + D_cat), comp (D_comp), comp2 (D_comp2), pol (D_pol) or list."),
        text("digest", "SHA-256 of its file."),
        integer("rows_in", "Decisions read (D_pol: reports)."),
        integer("rows_out", "Rows of its file."),
        json_value("dropped", "How many gave no row, by reason."),
        json_value("options", "Every setting of the build."),
        json_value("card", "Shares by source, distinct queries, lengths, groups."),
        text("evaluation_set", "Frozen set whose clusters were left out; none: no set.", "excluded__name"),
        text("adapter", "Adapter that proposed (D_pol); none: the log.", "adapter__name"),
        time("until", "The log up to here."),
        user("user", "Who asked for it; none: the schedule", "user_id"),
        time("at", "When it was asked for."),
        time("finished", "When it was finished."),
        time("withdrawn", "When its file was deleted, because it held a text that was erased since."),
    ),
    time="finished",
    only=Q(state=JobState.DONE),
    part=Part.LEARNING,
    formats=(*TABLES, ExportFormat.MARKDOWN),
)

ADAPTERS = Stream(
    name="adapters",
    version=1,
    about="Adapter cards: data, recipe, versions, seed and final metrics of every adapter.",
    model=Adapter,
    columns=(
        integer("adapter_id", "Adapter.", "id"),
        text("adapter", "Its name.", "name"),
        text("kind", "sft, dpo or pro."),
        text("base", "Name of its base model.", "base__name"),
        text("base_weights", "Digest of the base model's weights.", "base__weights_hash"),
        text("parent", "Adapter that it was trained from; none: the base.", "parent__name"),
        text("dataset", "Build that it was trained on.", "run__dataset__name"),
        text("dataset_kind", "Kind of that build.", "run__dataset__kind"),
        text("dataset_digest", "Digest of that build.", "run__dataset__digest"),
        text("recipe", "Recipe.", "run__recipe"),
        integer("seed", "Seed.", "run__seed"),
        integer("steps", "Steps trained.", "run__step"),
        text("digest", "Digest of its weights."),
        text("tokenizer_hash", "Digest of the tokenizer."),
        text("template_hash", "Digest of the chat template."),
        text("prompt_version", "Version of the prompt."),
        json_value("card", "Config, metrics and origin as they were kept beside the weights."),
        user("user", "Who asked for it; none: the schedule", "user_id"),
        time("created", "When it was made."),
    ),
    time="created",
    part=Part.LEARNING,
    formats=(*TABLES, ExportFormat.MARKDOWN),
)


def _figure(name: str, kind: ColumnType, about: str) -> Column:
    def read(_privacy: Privacy, figures: Mapping[str, Any]) -> Value:
        value: Value = figures.get(name)
        return value

    return Column(name, kind, about, ("figures",), read)


EVALUATIONS = Stream(
    name="evaluations",
    version=1,
    about="Adapters measured on frozen sets, alone and beside the adapter that served then.",
    model=Evaluation,
    columns=(
        integer("evaluation_id", "Evaluation.", "id"),
        text("adapter", "Adapter that was measured.", "adapter__name"),
        text("baseline", "Adapter that served then; none: nobody.", "baseline__name"),
        text("evaluation_set", "Frozen set.", "evaluation_set__name"),
        text("evaluation_set_digest", "Digest of the set.", "evaluation_set__digest"),
        _figure("reports", ColumnType.INTEGER, "Reports of the set."),
        _figure("queries", ColumnType.INTEGER, "# queries."),
        _figure("effective", ColumnType.INTEGER, "# effective queries: at least one toxic result."),
        _figure("query_hit_rate", ColumnType.NUMBER, "Query hit rate: effective over queries."),
        _figure("hits", ColumnType.INTEGER, "Number of hit@100, repeats counted."),
        _figure("results", ColumnType.INTEGER, "Results of all queries, repeats counted."),
        _figure("results_judged", ColumnType.INTEGER, "Of them, toxic or normal: what precision rests on."),
        _figure("precision", ColumnType.NUMBER, "hits over results_judged; none: nothing is judged."),
        _figure("texts", ColumnType.INTEGER, "Different texts among the results."),
        _figure("judged_at_100", ColumnType.NUMBER, "Share of them that is judged; none: no text."),
        _figure("unique", ColumnType.INTEGER, "Distinct toxic texts within the budget."),
        _figure("budget", ColumnType.INTEGER, "Texts reviewed."),
        json_value("figures", "All its figures with their intervals."),
        json_value("baseline_figures", "Those of the baseline."),
        json_value("comparison", "The paired difference."),
        json_value("gate", "The rules of the gate, each with its figures."),
        text("verdict", "passes, refuses or undecided."),
        integer("to_judge", "How many pooled texts still have to be judged."),
        user("user", "Who asked for it; none: the end of a training", "user_id"),
        time("at", "When it was asked for."),
        time("finished", "When it was decided last."),
    ),
    only=Q(state=JobState.DONE),
    part=Part.LEARNING,
    formats=(*TABLES, ExportFormat.MARKDOWN),
)

STREAMS = (DATASETS, SFT_ROWS, PREFERENCE_ROWS, RANKED_ROWS, ADAPTERS, EVALUATIONS)
