"""Attach mode: search an Elasticsearch index that belongs to somebody else. Nothing is ever written into it.

The index has its own mapping, its own analyzer (often `standard`) and its own ids. So:

- *Retrieval* is a `match_phrase` on its text field, of the query as written and as normalised. What its analyzer cannot
  find (a part of a word, most disguises) is not found: attach mode is exact in what it shows, not complete.
- *Exactness*: each result is checked again with our own analysis, on its text as stored; more are fetched than shown.
- *Totals* are estimates (`exact=False`): the index's own total times the share of checked results that passed.
- *Order and forecast*: the first `SCORED` matches by time are scored in this process and ordered by risk; the matches
  after those follow by time.
- *Removal* is an overlay: the application says which of the results it removed or judged, and those are filtered here.

An item row exists only for what was reported or exposed. `AttachedEngine` therefore speaks two languages. As a
`SearchEngine` it serves figures (trials, forecasts): the id of a hit is the key of its item row or, where there is
none, `stand_in_id(external_id)`, a negative number that is the same in every search, so that overlaps can be counted.
To show results, the application calls `search_foreign`, makes rows from its hits, and logs those. The values that
travel and what the application hands in are in extraction/search/foreign.py.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from elasticsearch import Elasticsearch

from extraction.errors import BadQuery, SearchError
from extraction.search.base import (
    Counts,
    Document,
    Health,
    Hit,
    Order,
    PutFailure,
    SearchPage,
    SearchRequest,
    hit_of,
    read_query,
    read_time,
    stored_risk,
    stored_time,
)
from extraction.search.elasticsearch import MSEARCH_SIZE, SEARCH_TIMEOUT_S, Connection, typed_error
from extraction.search.foreign import SCORED, AttachMapping, ForeignHit, ForeignPage, Overlay, stand_in_id
from extraction.text import CURRENT_ANALYSIS, Analysis, clean_text, detect_language, get_analysis

FETCH_ROWS = 250
MAX_CHECKED = 2_000


@dataclass
class _Checked:
    """Results of one request so far."""

    matches: list[ForeignHit] = field(default_factory=list)
    seen: set[str] = field(default_factory=set)
    checked: int = 0
    total: int = 0


class AttachedEngine:
    """A foreign index as a `SearchEngine` for figures, and `search_foreign` for results that are shown."""

    def __init__(self, connection: Connection, mapping: AttachMapping, overlay: Callable[[], Overlay]) -> None:
        self._connection = connection
        self._mapping = mapping
        self._overlay = overlay

    @cached_property
    def name(self) -> str:
        return f"attached elasticsearch {self._connection.server_version()}"

    @property
    def generation(self) -> str:
        return self._mapping.index

    @property
    def analysis(self) -> str:
        return get_analysis().name

    # --- results that are shown ---

    def search_foreign(self, request: SearchRequest) -> ForeignPage:
        """Matches with their texts. Raises BadQuery for a cursor: ask for all that is wanted at once."""
        (page,) = self.msearch_foreign([request])
        return page

    def msearch_foreign(self, requests: Sequence[SearchRequest]) -> list[ForeignPage]:
        """Pages in the order of the requests; their first results are fetched in batches."""
        started = time.perf_counter()
        analysis = get_analysis()
        keys = [_key(request, analysis) for request in requests]
        found = [_Checked() for _request in requests]
        for first in range(0, len(requests), MSEARCH_SIZE):
            batch = slice(first, first + MSEARCH_SIZE)
            answers = self._ask([self._body(request, analysis, 0) for request in requests[batch]])
            for request, key, checked, answer in zip(requests[batch], keys[batch], found[batch], answers, strict=True):
                self._check(request, key, analysis, checked, answer)
        for request, key, checked in zip(requests, keys, found, strict=True):
            self._fetch_more(request, key, analysis, checked)
        return [self._page(request, checked, started) for request, checked in zip(requests, found, strict=True)]

    def get_foreign(self, external_id: str) -> ForeignHit | None:
        """One item, for a report about it; None if the index does not have it."""
        hits = self.get_many_foreign([external_id])
        return hits[0] if hits else None

    def get_many_foreign(self, external_ids: Sequence[str]) -> list[ForeignHit]:
        """Those of these items (at most 10,000) that the index has, in no order."""
        if not external_ids:
            return []
        values = list(external_ids)
        wanted = {"ids": {"values": values}} if self._mapping.id == "_id" else {"terms": {self._mapping.id: values}}
        query = {"bool": {"filter": [wanted, self._filter()]}}
        (answer,) = self._ask([{"query": query, "size": len(values), **self._returned()}])
        return self._with_states([self._hit(hit) for hit in answer["hits"]["hits"]])

    def sample_foreign(self, size: int, seed: int) -> list[ForeignHit]:
        """Up to `size` (at most 10,000) items at random: the unlabelled texts of a risk model."""
        scored = {"random_score": {"seed": seed, "field": "_seq_no"}, "boost_mode": "replace", "query": self._filter()}
        body = {"query": {"function_score": scored}, "size": min(size, 10_000), **self._returned(order="_score")}
        (answer,) = self._ask([body])
        return self._with_states([self._hit(hit) for hit in answer["hits"]["hits"]])

    # --- figures: the protocol of an engine ---

    def search(self, request: SearchRequest) -> SearchPage:
        (page,) = self.msearch([request])
        return page

    def msearch(self, requests: Sequence[SearchRequest]) -> list[SearchPage]:
        pages = zip(requests, self.msearch_foreign(requests), strict=True)
        return [self._figures(request, page) for request, page in pages]

    def sample(self, size: int, seed: int) -> list[int]:
        """Only items that have a row; `sample_foreign` has the others."""
        return [hit.state.id for hit in self.sample_foreign(size, seed) if hit.state is not None and hit.is_live]

    def put(self, documents: Iterable[Document]) -> list[PutFailure]:
        """Nothing is written: verdict and removal reach the results through the overlay."""
        return []

    def versions(self, after_id: int, size: int) -> list[tuple[int, int]]:
        """Nothing to sweep."""
        return []

    def rebuild(self, documents: Iterable[Document], analysis: str = CURRENT_ANALYSIS) -> str:
        """Nothing to build."""
        return self.generation

    def refresh(self) -> None:
        """The owner of the index refreshes it."""

    def health(self) -> Health:
        """Asks for the fields too: a name that is not in the index is the usual mistake."""
        version = ""
        try:
            version = self._connection.server_version()
            with self._connection.asking(SEARCH_TIMEOUT_S) as client:
                count = int(client.count(index=self._mapping.index, query=self._filter())["count"])
                trouble = self._trouble(client)
        except SearchError as error:
            return Health(False, "attached", version, self.generation, "", 0, str(error))
        detail = trouble or f"{count} documents in {self._mapping.index}, which is not ours."
        return Health(not trouble, "attached", version, self.generation, self.analysis, count, detail)

    def _trouble(self, client: Elasticsearch) -> str:
        mapping = self._mapping
        wanted = {mapping.text: {"text", "match_only_text"}, mapping.time: {"date", "date_nanos"}}
        known = client.field_caps(index=mapping.index, fields=list(wanted))["fields"]
        for name, types in wanted.items():
            if not types & set(known.get(name, {})):
                return f"The field {name!r} of {mapping.index} is none of: {', '.join(sorted(types))}."
        return ""

    # --- requests ---

    def _body(self, request: SearchRequest, analysis: Analysis, first: int) -> dict[str, Any]:
        written = dict.fromkeys([clean_text(request.text), analysis.normalise(request.text)])
        phrases = [{"match_phrase": {self._mapping.text: text}} for text in written]
        return {
            "query": {"bool": {"should": phrases, "minimum_should_match": 1, "filter": [self._filter()]}},
            "from": first,
            "size": FETCH_ROWS,
            "track_total_hits": True,
            **self._returned(),
        }

    def _filter(self) -> dict[str, Any]:
        return dict(self._mapping.filter) or {"match_all": {}}

    def _returned(self, order: str = "") -> dict[str, Any]:
        by_time = {self._mapping.time: {"order": "desc", "numeric_type": "date", "missing": "_last"}}
        names = [self._mapping.text, self._mapping.id, self._mapping.author, self._mapping.url]
        sort: list[Any] = [{order: "desc"}, by_time] if order else [by_time]
        return {"_source": [name for name in names if name and name != "_id"], "sort": sort}

    def _ask(self, bodies: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        searches: list[dict[str, Any]] = []
        for body in bodies:
            searches += [{"index": self._mapping.index}, body]
        with self._connection.asking(SEARCH_TIMEOUT_S) as client:
            answers: list[dict[str, Any]] = client.msearch(searches=searches)["responses"]
        for answer in answers:
            if "error" in answer:
                raise typed_error(int(answer["status"]), str(answer["error"]))
        return answers

    # --- answers ---

    def _check(
        self, request: SearchRequest, key: str, analysis: Analysis, checked: _Checked, answer: dict[str, Any]
    ) -> None:
        """Keep those results that match by our own rules."""
        hits = [hit for hit in map(self._hit, answer["hits"]["hits"]) if hit.external_id not in checked.seen]
        checked.seen |= {hit.external_id for hit in hits}
        checked.checked += len(answer["hits"]["hits"])
        checked.total = int(answer["hits"]["total"]["value"])
        matching = [
            hit
            for hit in hits
            if analysis.matches(hit.text, key, request.mode)
            and request.language in ("", detect_language(hit.text))
            and request.platform in ("", self._mapping.platform)
        ]
        checked.matches += self._with_states(matching)

    def _fetch_more(self, request: SearchRequest, key: str, analysis: Analysis, checked: _Checked) -> None:
        """Fetch until the page and the part that is scored are full, nothing is left, or enough was looked at."""
        wanted = max(request.size, SCORED)
        while checked.checked < min(checked.total, MAX_CHECKED) and len(_asked_for(request, checked.matches)) < wanted:
            before = checked.checked
            (answer,) = self._ask([self._body(request, analysis, before)])
            self._check(request, key, analysis, checked, answer)
            if checked.checked == before:
                return

    def _page(self, request: SearchRequest, checked: _Checked, started: float) -> ForeignPage:
        hits = self._scored(sorted(_asked_for(request, checked.matches), key=_time_place))
        if request.order is Order.RISK:
            hits = [*sorted(hits[:SCORED], key=_risk_place), *hits[SCORED:]]
        took_ms = (time.perf_counter() - started) * 1000
        return ForeignPage(tuple(hits[: request.size]), _estimate(checked), checked.checked, checked.total, took_ms)

    def _scored(self, hits: list[ForeignHit]) -> list[ForeignHit]:
        """The hits with the risk of the first `SCORED` of them."""
        risks = self._overlay().score([hit.text for hit in hits[:SCORED]]) if hits else None
        if risks is None:
            return hits
        scored = [replace(hit, risk=float(risk)) for hit, risk in zip(hits[:SCORED], risks, strict=True)]
        return scored + hits[SCORED:]

    def _hit(self, hit: dict[str, Any]) -> ForeignHit:
        mapping, source = self._mapping, hit.get("_source", {})
        return ForeignHit(
            external_id=str(hit["_id"] if mapping.id == "_id" else _at(source, mapping.id)),
            text=clean_text(_at(source, mapping.text)),
            created=read_time(max(int(hit["sort"][-1]), 0)),
            author=_at(source, mapping.author),
            url=_at(source, mapping.url),
        )

    def _with_states(self, hits: Sequence[ForeignHit]) -> list[ForeignHit]:
        states = self._overlay().states([hit.external_id for hit in hits]) if hits else {}
        return [replace(hit, state=states.get(hit.external_id)) for hit in hits]

    def _figures(self, request: SearchRequest, page: ForeignPage) -> SearchPage:
        hits = tuple(_figure(request.order, hit) for hit in page.hits)
        return SearchPage(hits, page.counts, False, self.generation, self.analysis, page.took_ms)


def _figure(order: Order, hit: ForeignHit) -> Hit:
    id = stand_in_id(hit.external_id) if hit.state is None else hit.state.id
    return hit_of(order, id, stored_risk(hit.risk), stored_time(hit.created), hit.is_live)


def _key(request: SearchRequest, analysis: Analysis) -> str:
    read_query(request, analysis)
    if request.after is not None:
        raise BadQuery("An attached index has no cursor; ask for a larger page.")
    return analysis.key(request.text, request.mode)


def _asked_for(request: SearchRequest, hits: Iterable[ForeignHit]) -> list[ForeignHit]:
    return [hit for hit in hits if request.live in (None, hit.is_live)]


def _time_place(hit: ForeignHit) -> tuple[float, str]:
    return (-hit.created.timestamp(), hit.external_id)


def _risk_place(hit: ForeignHit) -> tuple[float, float, str]:
    return (-stored_risk(hit.risk), *_time_place(hit))


def _estimate(checked: _Checked) -> Counts:
    """Counts of all matches, from the share among the checked ones. Judged ones are counted, not estimated."""
    share = checked.total / checked.checked if checked.checked else 0.0
    live = sum(hit.is_live for hit in checked.matches)
    verdicts = [hit.state.verdict for hit in checked.matches if hit.state is not None]
    return Counts(
        live=round(live * share),
        removed=round((len(checked.matches) - live) * share),
        toxic=verdicts.count("toxic"),
        normal=verdicts.count("normal"),
    )


def _at(source: Mapping[str, Any], path: str) -> str:
    """The text at a path of names; "" where there is none. A list gives its parts, joined by line breaks."""
    value: Any = source.get(path) if path in source else _below(source, path)
    if value is None:
        return ""
    return "\n".join(map(str, value)) if isinstance(value, list) else str(value)


def _below(source: Mapping[str, Any], path: str) -> Any:
    value: Any = source
    for name in path.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    return value
