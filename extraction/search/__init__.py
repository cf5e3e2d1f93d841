"""The search engines: the only place that knows a client. `get_engine()` gives the one that the settings name."""

from functools import lru_cache
from pathlib import Path

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
from extraction.search.fts5 import Fts5Engine

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
    "get_engine",
]


def get_engine() -> SearchEngine:
    """The engine of this process: one for each set of settings, safe to share between threads and across a fork."""
    if settings.ELASTICSEARCH_URL:
        return _elasticsearch(
            settings.ELASTICSEARCH_URL,
            settings.SEARCH_INDEX,
            settings.ELASTICSEARCH_API_KEY,
            settings.ELASTICSEARCH_CA_CERTS,
        )
    return _fts5(Path(settings.SEARCH_FILE))


@lru_cache
def _elasticsearch(url: str, alias: str, api_key: str, ca_certs: str) -> SearchEngine:
    from extraction.search.elasticsearch import ElasticsearchEngine  # 0.2 s that only those who use it wait for

    return ElasticsearchEngine(url, alias, api_key=api_key, ca_certs=ca_certs)


@lru_cache
def _fts5(path: Path) -> Fts5Engine:
    return Fts5Engine(path)
