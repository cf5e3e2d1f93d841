"""The engines that a benchmark can search with: the product's own two, each with indexes of its own."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path

from django.conf import settings

from extraction.search import SearchEngine
from extraction.search.fts5 import Fts5Engine
from training.benchmark.evaluator import MakeEngine
from training.benchmark.suites import SuiteError


class EngineKind(StrEnum):
    FTS5 = "fts5"
    ELASTICSEARCH = "elasticsearch"


@contextmanager
def open_engines(kind: EngineKind) -> Iterator[MakeEngine]:
    """Makes empty engines. Elasticsearch is the server of the settings; indexes made on it are dropped at the end.

    Raises SuiteError where the settings name no server.
    """
    if kind is EngineKind.FTS5:
        yield Fts5Engine
        return
    from extraction.search.elasticsearch import ElasticsearchEngine

    if not settings.ELASTICSEARCH_URL:
        raise SuiteError("No Elasticsearch server is set: give its address in QX_ELASTICSEARCH_URL.")
    made: list[ElasticsearchEngine] = []

    def make(_path: Path) -> SearchEngine:
        engine = ElasticsearchEngine(
            settings.ELASTICSEARCH_URL,
            f"qx-benchmark-{secrets.token_hex(6)}",
            api_key=settings.ELASTICSEARCH_API_KEY,
            ca_certs=settings.ELASTICSEARCH_CA_CERTS,
        )
        made.append(engine)
        return engine

    try:
        yield make
    finally:
        for engine in made:
            engine.drop()
