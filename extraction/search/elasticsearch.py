"""The engine on Elasticsearch 8 and 9: one versioned index behind an alias, whole documents with external versions.

Only parts of the server's core are used. Tokens are made here and cut again by the `whitespace` analyzer, so that a
phrase query means the same as in the embedded engine. The client is of series 8: it speaks to servers of both.

A search names the concrete index whose text analysis it was read with. A write names the alias; where a rebuild has
swapped the index meanwhile, it is made again with the new index's analysis. The index keeps each raw text (unindexed),
so that a rebuild can copy what was put while it ran.
"""

import logging
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from itertools import islice
from typing import Any, TypeVar

from elastic_transport import ConnectionTimeout, TransportError
from elasticsearch import ApiError, Elasticsearch
from elasticsearch.helpers import streaming_bulk

from extraction.errors import BadQuery, IndexMissing, SearchError, SearchTimedOut, SearchUnavailable
from extraction.search.base import (
    Counts,
    Document,
    Health,
    Hit,
    Order,
    PutFailure,
    SearchPage,
    SearchRequest,
    check_cursor,
    hit_of,
    newest_of,
    read_query,
    read_risk,
    read_time,
    refusal,
    stored_risk,
    stored_time,
)
from extraction.search.streams import stream
from extraction.text import CURRENT_ANALYSIS, Analysis, MatchMode, analysis_of, clean_text, get_analysis

FORMAT = "1"  # of the indexes; another one asks for a rebuild
SEARCH_TIMEOUT_S = 10.0
WRITE_TIMEOUT_S = 60.0
ADMIN_TIMEOUT_S = 60.0
MSEARCH_SIZE = 32
PUT_ROWS = 500
SCAN_ROWS = 1000
SERVING_TTL_S = 0.5  # how long a process may search the index before the one that serves
PUT_ATTEMPTS = 120
PUT_PAUSE_S = 0.25
CATCH_UP_ROUNDS = 5

_SORT: dict[Order, list[dict[str, str]]] = {
    Order.RISK: [{"risk": "desc"}, {"created": "desc"}, {"id": "asc"}],
    Order.RECENT: [{"created": "desc"}, {"id": "asc"}],
}
_TOKENS = {"type": "text", "analyzer": "whitespace", "norms": False}
_PROPERTIES: dict[str, Any] = {
    "phrase": _TOKENS,
    "characters": _TOKENS,
    "id": {"type": "long"},
    "live": {"type": "boolean"},
    "state": {"type": "keyword"},
    "risk": {"type": "double"},
    "created": {"type": "long"},
    "verdict": {"type": "keyword"},
    "platform": {"type": "keyword"},
    "language": {"type": "keyword"},
    "author": {"type": "keyword"},
    "text": {"type": "keyword", "index": False, "doc_values": False},
}
_STATES = {"states": {"terms": {"field": "state", "size": 10}}}

logger = logging.getLogger(__name__)
T = TypeVar("T")


@dataclass(frozen=True)
class _Serving:
    """The index behind the alias, and how it reads text."""

    index: str
    analysis: Analysis


class ElasticsearchEngine:
    """The `SearchEngine` on Elasticsearch. All counts are exact."""

    def __init__(self, url: str, alias: str, *, api_key: str = "", ca_certs: str = "") -> None:
        self._connection = Connection(url, api_key=api_key, ca_certs=ca_certs)
        self._alias = alias
        self._known: _Serving | None = None
        self._known_at = 0.0

    # --- what serves ---

    @cached_property
    def name(self) -> str:
        return f"elasticsearch {self._connection.server_version()}"

    @property
    def generation(self) -> str:
        return self._serving().index

    @property
    def analysis(self) -> str:
        return self._serving().analysis.name

    def health(self) -> Health:
        version = ""
        try:
            version = self._connection.server_version()
            serving = self._resolve()
            status = self._connection.status(serving.index)
            with self._connection.asking(SEARCH_TIMEOUT_S) as client:
                count = int(client.count(index=serving.index)["count"])
        except SearchError as error:
            return Health(False, "elasticsearch", version, "", "", 0, str(error))
        detail = f"{count} documents in {serving.index}, cluster health {status}."
        is_ready = status != "red"
        return Health(is_ready, "elasticsearch", version, serving.index, serving.analysis.name, count, detail)

    def refresh(self) -> None:
        with self._connection.asking(WRITE_TIMEOUT_S) as client:
            client.indices.refresh(index=self._alias)

    # --- search ---

    def search(self, request: SearchRequest) -> SearchPage:
        def ask(serving: _Serving) -> SearchPage:
            started = time.perf_counter()
            body = _body(request, serving.analysis)
            with self._connection.asking(SEARCH_TIMEOUT_S) as client:
                answer = client.search(index=serving.index, allow_partial_search_results=False, **body)
            return _page(request, serving, answer.body, started)

        return self._on_serving(ask)

    def msearch(self, requests: Sequence[SearchRequest]) -> list[SearchPage]:
        def ask(serving: _Serving) -> list[SearchPage]:
            pages: list[SearchPage] = []
            for first in range(0, len(requests), MSEARCH_SIZE):
                pages += self._batch(requests[first : first + MSEARCH_SIZE], serving)
            return pages

        return self._on_serving(ask)

    def _batch(self, requests: Sequence[SearchRequest], serving: _Serving) -> list[SearchPage]:
        started = time.perf_counter()
        header = {"index": serving.index, "allow_partial_search_results": False}
        searches: list[dict[str, Any]] = []
        for request in requests:
            searches += [header, _body(request, serving.analysis)]
        with self._connection.asking(SEARCH_TIMEOUT_S) as client:
            answers = client.msearch(searches=searches)["responses"]
        for answer in answers:
            if "error" in answer:
                raise typed_error(int(answer["status"]), str(answer["error"]))
        return [_page(request, serving, answer, started) for request, answer in zip(requests, answers, strict=True)]

    def sample(self, size: int, seed: int) -> list[int]:
        def ask(serving: _Serving) -> list[int]:
            query = {
                "function_score": {
                    "query": {"term": {"live": True}},
                    "random_score": {"seed": seed, "field": "id"},
                    "boost_mode": "replace",
                }
            }
            body = {"query": query, "sort": [{"_score": "desc"}, {"id": "asc"}], "source": False}
            return [hit["sort"][-1] for hit in islice(self._scan(serving.index, body), size)]

        return self._on_serving(ask)

    def versions(self, after_id: int, size: int) -> list[tuple[int, int]]:
        def ask(serving: _Serving) -> list[tuple[int, int]]:
            body = {"query": {"range": {"id": {"gt": after_id}}}, "sort": [{"id": "asc"}], "source": False}
            hits = islice(self._scan(serving.index, body, version=True), size)
            return [(hit["sort"][0], hit["_version"]) for hit in hits]

        return self._on_serving(ask)

    def _scan(self, index: str, body: dict[str, Any], *, version: bool = False) -> Iterator[dict[str, Any]]:
        """All hits of a search whose order is total, page by page."""
        after: dict[str, Any] = {}
        while True:
            with self._connection.asking(WRITE_TIMEOUT_S) as client:
                answer = client.search(
                    index=index, size=SCAN_ROWS, version=version, allow_partial_search_results=False, **body, **after
                )
            hits = answer["hits"]["hits"]
            yield from hits
            if len(hits) < SCAN_ROWS:
                return
            after = {"search_after": hits[-1]["sort"]}

    # --- write ---

    def put(self, documents: Iterable[Document]) -> list[PutFailure]:
        failures: list[PutFailure] = []
        batches = iter(documents)
        while batch := list(islice(batches, PUT_ROWS)):
            failures += [PutFailure(document.id, reason) for document in batch if (reason := refusal(document))]
            failures += self._put_batch(newest_of(document for document in batch if not refusal(document)))
        return failures

    def _put_batch(self, documents: Sequence[Document]) -> list[PutFailure]:
        """Write through the alias until every document is in the index that serves, or was refused by it."""
        failures: list[PutFailure] = []
        pending = documents
        for _attempt in range(PUT_ATTEMPTS):
            serving = self._ensure()
            outcomes = self._bulk(pending, serving.analysis, self._alias, require_alias=True)
            failures += [PutFailure(id, outcome.reason) for id, outcome in outcomes.items() if outcome.is_refused]
            pending = [document for document in pending if outcomes[document.id].is_open(serving.index)]
            if not pending:
                return failures
            self._known = None
            time.sleep(PUT_PAUSE_S)
        reason = outcomes[pending[0].id].reason
        raise SearchUnavailable(f"{len(pending)} documents could not be written to {self._alias}, the first: {reason}")

    def _bulk(
        self, documents: Iterable[Document], analysis: Analysis, index: str, *, require_alias: bool
    ) -> dict[int, "_Outcome"]:
        outcomes: dict[int, _Outcome] = {}
        with self._connection.asking(WRITE_TIMEOUT_S) as client:
            results = streaming_bulk(
                client,
                (_action(document, analysis) for document in documents),
                index=index,
                require_alias=require_alias,
                chunk_size=PUT_ROWS,
                max_retries=5,
                initial_backoff=0.5,
                raise_on_error=False,
            )
            for _ok, result in results:
                item = result["index"]
                outcomes[int(item["_id"])] = _Outcome.of(item)
        return outcomes

    def _bulk_all(self, documents: Iterable[Document], fresh: _Serving) -> None:
        """Write into an index that does not serve yet; what the index refuses was refused by `put` before."""
        outcomes = self._bulk(documents, fresh.analysis, fresh.index, require_alias=False)
        for id, outcome in outcomes.items():
            if outcome.is_refused:
                logger.warning("Document %s was left out of %s: %s", id, fresh.index, outcome.reason)
            elif outcome.is_open(fresh.index):
                raise SearchUnavailable(f"A document could not be written to {fresh.index}: {outcome.reason}")

    def rebuild(self, documents: Iterable[Document], analysis: str = CURRENT_ANALYSIS) -> str:
        old = self._readable()
        seen = self._last_write(old) if old else -1
        fresh = _Serving(self._new_name(), get_analysis(analysis))
        self._create(fresh, settings={"refresh_interval": "-1"}, aliases={})
        try:
            self._fill(fresh, documents)
            self._catch_up_and_swap(old, fresh, seen)
        except BaseException:
            self._delete([fresh.index])
            raise
        self._known = None
        time.sleep(2 * SERVING_TTL_S)  # other processes leave the old index
        self._delete_spare()
        return fresh.index

    def _fill(self, fresh: _Serving, documents: Iterable[Document]) -> None:
        batches = iter(documents)
        while batch := list(islice(batches, PUT_ROWS)):
            accepted = newest_of(document for document in batch if not refusal(document))
            self._bulk_all(accepted, fresh)
        with self._connection.asking(ADMIN_TIMEOUT_S) as client:
            client.indices.put_settings(index=fresh.index, settings={"refresh_interval": None})

    def _catch_up_and_swap(self, old: str, fresh: _Serving, seen: int) -> None:
        """Copy what was written to the old index after `seen`; the last of it with its writes stopped, then swap."""
        if (serving := self._readable()) != old:
            old, seen = serving, -1  # another rebuild was quicker, or the first index was made meanwhile
        if not old:
            self._point_to(fresh.index)
            return
        for _round in range(CATCH_UP_ROUNDS):
            seen, before = self._copy(old, fresh, seen), seen
            if seen - before < SCAN_ROWS:
                break
        with self._connection.asking(ADMIN_TIMEOUT_S) as client:
            client.indices.add_block(index=old, block="write")
        try:
            self._copy(old, fresh, seen)
            self._point_to(fresh.index)
        except BaseException:
            with self._connection.asking(ADMIN_TIMEOUT_S) as client:
                client.indices.put_settings(index=old, settings={"index.blocks.write": None})
            raise

    def _readable(self) -> str:
        """The index that serves, "" if there is none or it is of another release."""
        try:
            return self._resolve().index
        except IndexMissing:
            return ""

    def _copy(self, old: str, fresh: _Serving, seen: int) -> int:
        """Put into the fresh index what was written to the old one after `seen`; the number of the last write."""
        last = self._last_write(old)
        body = {"query": {"range": {"_seq_no": {"gt": seen}}}, "sort": [{"id": "asc"}]}
        documents = (_document(hit) for hit in self._scan(old, body, version=True))
        self._bulk_all(documents, fresh)
        with self._connection.asking(ADMIN_TIMEOUT_S) as client:
            client.indices.refresh(index=fresh.index)
        return last

    def _last_write(self, index: str) -> int:
        """The number of the last write that searches of the index see from now on (it has one shard). -1: none."""
        with self._connection.asking(ADMIN_TIMEOUT_S) as client:
            client.indices.refresh(index=index)
            answer = client.search(index=index, size=1, sort=[{"_seq_no": "desc"}], source=False)
        return max((int(hit["sort"][0]) for hit in answer["hits"]["hits"]), default=-1)

    def drop(self) -> None:
        """Delete this engine's indices, all generations, by name."""
        with self._connection.asking(ADMIN_TIMEOUT_S) as client:
            generations = client.indices.get(index=f"{self._alias}-*").body
        self._known = None
        self._delete(list(generations))

    # --- indices ---

    def _on_serving(self, ask: Callable[[_Serving], T]) -> T:
        """Ask the index that serves; where it was deleted after a swap, ask the one that serves now."""
        serving = self._serving()
        try:
            return ask(serving)
        except IndexMissing:
            current = self._resolve()
            if current.index == serving.index:
                raise
            return ask(current)

    def _serving(self) -> _Serving:
        known = self._known
        if known is not None and time.monotonic() - self._known_at < SERVING_TTL_S:
            return known
        return self._resolve()

    def _resolve(self) -> _Serving:
        """Ask the server which index serves. Raises IndexMissing if none does."""
        with self._connection.asking(SEARCH_TIMEOUT_S) as client:
            index = max(client.indices.get_alias(name=self._alias).body)
            serving = self._known
            if serving is None or serving.index != index:
                meta = client.indices.get_mapping(index=index)[index]["mappings"].get("_meta", {})
                if meta.get("format") != FORMAT:
                    raise IndexMissing(f"The index {index} was not made by this release; rebuild it.")
                serving = _Serving(index, analysis_of(meta["analysis"]))
            self._known, self._known_at = serving, time.monotonic()
            return serving

    def _ensure(self) -> _Serving:
        """The index that serves; an empty one is made where there is none."""
        try:
            return self._serving()
        except IndexMissing:
            with self._connection.asking(SEARCH_TIMEOUT_S) as client:
                if client.indices.exists_alias(name=self._alias):
                    raise
            first = _Serving(f"{self._alias}-first", get_analysis())
            try:
                self._create(first, settings={}, aliases={self._alias: {}})
            except BadQuery as error:
                logger.info("Another process made the first index: %s", error)
            return self._resolve()

    def _create(self, serving: _Serving, *, settings: dict[str, Any], aliases: dict[str, Any]) -> None:
        mappings = {
            "dynamic": "strict",
            "_meta": {"format": FORMAT, "analysis": serving.analysis.definition()},
            "_source": {"excludes": ["phrase", "characters"]},
            "properties": _PROPERTIES,
        }
        kept = {"number_of_shards": 1, "auto_expand_replicas": "0-1", **settings}
        with self._connection.asking(ADMIN_TIMEOUT_S) as client:
            client.indices.create(
                index=serving.index, mappings=mappings, settings=kept, aliases=aliases, wait_for_active_shards=1
            )

    def _point_to(self, index: str) -> None:
        """Make `index` the only one behind the alias, in one step."""
        actions: list[dict[str, Any]] = [
            {"remove": {"index": f"{self._alias}-*", "alias": self._alias, "must_exist": False}},
            {"add": {"index": index, "alias": self._alias}},
        ]
        with self._connection.asking(ADMIN_TIMEOUT_S) as client:
            client.indices.update_aliases(actions=actions)

    def _new_name(self) -> str:
        return f"{self._alias}-{datetime.now(UTC):%Y%m%dt%H%M%S}-{secrets.token_hex(2)}"

    def _delete_spare(self) -> None:
        """Delete the generations that do not serve."""
        with self._connection.asking(ADMIN_TIMEOUT_S) as client:
            generations = client.indices.get_alias(index=f"{self._alias}-*").body
        self._delete([index for index, entry in generations.items() if self._alias not in entry["aliases"]])

    def _delete(self, indices: Sequence[str]) -> None:
        for index in indices:
            with self._connection.asking(ADMIN_TIMEOUT_S) as client:
                client.indices.delete(index=index, ignore_unavailable=True)


# --- requests and answers -------------------------------------------------------------------------------------------


def _body(request: SearchRequest, analysis: Analysis) -> dict[str, Any]:
    tokens = read_query(request, analysis)
    check_cursor(request)
    filters: list[dict[str, Any]] = [{"match_phrase": {request.mode.value: stream(tokens)}}]
    filters += [{"term": {name: value}} for name in ("platform", "language") if (value := getattr(request, name))]
    body: dict[str, Any] = {
        "query": {"bool": {"filter": filters}},
        "sort": _SORT[request.order],
        "size": request.size,
        "aggs": _STATES,
        "track_total_hits": False,
        "_source": False,
        "docvalue_fields": ["live", "risk"] if request.order is Order.RECENT else ["live"],
    }
    if request.live is not None:
        body["post_filter"] = {"term": {"live": request.live}}
    if request.after is not None:
        body["search_after"] = list(request.after)
    return body


def _page(request: SearchRequest, serving: _Serving, answer: dict[str, Any], started: float) -> SearchPage:
    if answer["timed_out"]:
        raise SearchTimedOut(f"Elasticsearch stopped a search of {serving.index} after {answer['took']} ms.")
    states = {bucket["key"]: int(bucket["doc_count"]) for bucket in answer["aggregations"]["states"]["buckets"]}
    hits = tuple(_hit(request.order, hit) for hit in answer["hits"]["hits"])
    took_ms = (time.perf_counter() - started) * 1000
    return SearchPage(hits, _counts(states), True, serving.index, serving.analysis.name, took_ms)


def _hit(order: Order, hit: dict[str, Any]) -> Hit:
    *risk, created, id = hit["sort"]
    fields = hit["fields"]
    return hit_of(order, id, risk[0] if risk else fields["risk"][0], created, fields["live"][0])


def _state(live: bool, verdict: str) -> str:
    """What the counts of a page go by: one field, so that the server counts once."""
    return f"{'live' if live else 'removed'} {verdict}"


def _counts(states: dict[str, int]) -> Counts:
    def having(part: int, value: str) -> int:
        return sum(count for state, count in states.items() if state.split(" ")[part] == value)

    return Counts(having(0, "live"), having(0, "removed"), having(1, "toxic"), having(1, "normal"))


def _action(document: Document, analysis: Analysis) -> dict[str, Any]:
    normalised = analysis.normalise(document.text)
    streams = {mode.value: stream(analysis.tokens_of_normalised(normalised, mode)) for mode in MatchMode}
    return {
        "_op_type": "index",
        "_id": str(document.id),
        "version": document.version,
        "version_type": "external_gte",
        "_source": {
            **streams,
            "id": document.id,
            "live": document.live,
            "state": _state(document.live, document.verdict),
            "risk": stored_risk(document.risk),
            "created": stored_time(document.created),
            "verdict": document.verdict,
            "platform": document.platform,
            "language": document.language,
            "author": document.author,
            "text": clean_text(document.text),
        },
    }


def _document(hit: dict[str, Any]) -> Document:
    """A document from what the index keeps of it."""
    source = hit["_source"]
    return Document(
        id=source["id"],
        text=source["text"],
        version=hit["_version"],
        live=source["live"],
        created=read_time(source["created"]),
        risk=read_risk(source["risk"]),
        verdict=source["verdict"],
        language=source["language"],
        platform=source["platform"],
        author=source["author"],
    )


@dataclass(frozen=True)
class _Outcome:
    """What became of one document of a bulk request. A version conflict means that the index is newer: success."""

    status: int
    index: str
    reason: str

    @classmethod
    def of(cls, item: dict[str, Any]) -> "_Outcome":
        error = item.get("error", {})
        reason = f"{error.get('type')}: {error.get('reason')}" if isinstance(error, dict) else str(error)
        return cls(int(item["status"]), str(item.get("_index", "")), reason)

    @property
    def is_refused(self) -> bool:
        """True if trying again is of no use."""
        return self.status == 400 or (self.status == 403 and "cluster_block" not in self.reason)

    def is_open(self, index: str) -> bool:
        """True if the document must be sent again: the write was stopped or not possible, or went to another index."""
        is_written = self.status < 300 and self.index == index
        return not (is_written or self.is_refused or self.status == 409)


# --- connection -----------------------------------------------------------------------------------------------------


class Connection:
    """A client for each process, and its errors as ours."""

    def __init__(self, url: str, *, api_key: str = "", ca_certs: str = "") -> None:
        self._url = url
        self._api_key = api_key or None
        self._ca_certs = ca_certs or None
        self._client: Elasticsearch | None = None
        self._process = 0
        self._lock = threading.Lock()

    @contextmanager
    def asking(self, timeout_s: float, *, retries: int = 1) -> Iterator[Elasticsearch]:
        """A client with this timeout; a lost connection is tried again `retries` times, a timeout is not."""
        try:
            yield self._of_process().options(request_timeout=timeout_s, max_retries=retries, retry_on_timeout=False)
        except ConnectionTimeout as error:
            raise SearchTimedOut(f"Elasticsearch did not answer within {timeout_s:g} s: {error}") from error
        except ApiError as error:
            raise typed_error(error.status_code, str(error)) from error
        except TransportError as error:
            raise SearchUnavailable(f"Elasticsearch cannot be reached: {error}") from error

    def server_version(self) -> str:
        """The version of the oldest node."""
        with self.asking(SEARCH_TIMEOUT_S) as client:
            nodes = client.nodes.info(filter_path="nodes.*.version")["nodes"]
        return min((str(node["version"]) for node in nodes.values()), key=lambda text: [*map(int, text.split("."))])

    def status(self, index: str) -> str:
        """green, yellow or red."""
        with self.asking(SEARCH_TIMEOUT_S) as client:
            return str(client.cluster.health(index=index)["status"])

    def _of_process(self) -> Elasticsearch:
        """A fork must not share its parent's sockets."""
        with self._lock:
            if self._client is None or self._process != os.getpid():
                self._client = Elasticsearch(self._url, api_key=self._api_key, **self._certificates())
                self._process = os.getpid()
            return self._client

    def _certificates(self) -> dict[str, Any]:
        return {"ca_certs": self._ca_certs} if self._ca_certs else {}


def typed_error(status: int, detail: str) -> SearchError:
    """Our error for an answer of the server."""
    if status == 404:
        return IndexMissing(f"Elasticsearch: {detail}")
    if status == 400:
        return BadQuery(f"Elasticsearch: {detail}")
    if status in (408, 504):
        return SearchTimedOut(f"Elasticsearch: {detail}")
    return SearchUnavailable(f"Elasticsearch answered {status}: {detail}")
