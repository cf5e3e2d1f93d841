"""The search engines: the only place that knows a client. `get_engine()` gives the one that the settings name."""

import json
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from django.conf import settings

from extraction.search.base import (
    COUNT_LIMIT,
    Counts,
    Document,
    Health,
    Hit,
    Order,
    PutFailure,
    SearchEngine,
    SearchPage,
    SearchRequest,
)
from extraction.search.foreign import AttachMapping, overlay_in_use
from extraction.search.fts5 import Fts5Engine

if TYPE_CHECKING:
    from extraction.search.attached import AttachedEngine

__all__ = [
    "COUNT_LIMIT",
    "Counts",
    "Document",
    "Health",
    "Hit",
    "Order",
    "PutFailure",
    "SearchEngine",
    "SearchPage",
    "SearchRequest",
    "get_attached",
    "get_engine",
]


def get_engine() -> SearchEngine:
    """The engine of this process: one for each set of settings, safe to share between threads and across a fork."""
    if attached := get_attached():
        return attached
    if settings.ELASTICSEARCH_URL:
        return _elasticsearch(
            settings.ELASTICSEARCH_URL,
            settings.SEARCH_INDEX,
            settings.ELASTICSEARCH_API_KEY,
            settings.ELASTICSEARCH_CA_CERTS,
        )
    return _fts5(Path(settings.SEARCH_FILE))


def get_attached() -> "AttachedEngine | None":
    """The engine where this site is attached to a foreign index (settings.SEARCH_ATTACH), else None.

    It has more than the protocol: `search_foreign` gives matches that have no item row yet.
    """
    mapping = getattr(settings, "SEARCH_ATTACH", None)
    if not mapping:
        return None
    return _attached(
        settings.ELASTICSEARCH_URL,
        json.dumps(mapping, sort_keys=True),
        settings.ELASTICSEARCH_API_KEY,
        settings.ELASTICSEARCH_CA_CERTS,
    )


@lru_cache
def _attached(url: str, mapping: str, api_key: str, ca_certs: str) -> "AttachedEngine":
    from extraction.search.attached import AttachedEngine
    from extraction.search.elasticsearch import Connection

    connection = Connection(url, api_key=api_key, ca_certs=ca_certs)
    return AttachedEngine(connection, AttachMapping.from_settings(json.loads(mapping)), overlay_in_use)


@lru_cache
def _elasticsearch(url: str, alias: str, api_key: str, ca_certs: str) -> SearchEngine:
    from extraction.search.elasticsearch import ElasticsearchEngine  # 0.2 s that only those who use it wait for

    return ElasticsearchEngine(url, alias, api_key=api_key, ca_certs=ca_certs)


@lru_cache
def _fts5(path: Path) -> Fts5Engine:
    return Fts5Engine(path)
