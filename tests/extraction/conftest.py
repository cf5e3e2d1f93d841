"""Search servers for the tests of this folder."""

from tests.elasticsearch_server import (
    elasticsearch_8,
    elasticsearch_8_server,
    elasticsearch_9,
    elasticsearch_9_server,
)

__all__ = ["elasticsearch_8", "elasticsearch_8_server", "elasticsearch_9", "elasticsearch_9_server"]
