"""What leaves for research: the streams of the loop and the flat file made from them.

Dataset builders and measures read the same streams: `get_stream("decisions").rows(Privacy(...), Window(since=…))`.
Apps above this one add theirs when they are ready (`register`).
"""

from audit.logs import streams, trec
from audit.logs.columns import Column, ColumnType, Row, Value
from audit.logs.files import FileRequest, Manifest, finished, manifest_path, write_file, written_rows
from audit.logs.flat import FLAT
from audit.logs.privacy import Privacy, Pseudonyms
from audit.logs.reading import Part, Stream, Window

STREAMS: dict[str, Stream] = {
    stream.name: stream
    for stream in (
        FLAT,
        streams.POLICIES,
        streams.COMPLAINTS,
        streams.REPORTS,
        streams.REPORT_EVENTS,
        streams.GENERATIONS,
        streams.SUGGESTION_BATCHES,
        streams.SUGGESTIONS,
        streams.DECISIONS,
        streams.EXPLORATIONS,
        streams.EXPLORATION_QUERIES,
        streams.RUNS,
        streams.EXPOSURES,
        streams.JUDGMENTS,
        streams.REMOVALS,
        streams.OUTBOX,
        streams.RISK_PROMOTIONS,
        streams.ADAPTER_PROMOTIONS,
        trec.RUN_FILE,
        trec.QRELS,
    )
}


def register(*added: Stream) -> None:
    """Let these streams be exported too."""
    STREAMS.update({stream.name: stream for stream in added})


def get_stream(name: str) -> Stream:
    """The stream of that name. Raises KeyError for an unknown one."""
    return STREAMS[name]


__all__ = [
    "FLAT",
    "STREAMS",
    "Column",
    "ColumnType",
    "FileRequest",
    "Manifest",
    "Part",
    "Privacy",
    "Pseudonyms",
    "Row",
    "Stream",
    "Value",
    "Window",
    "finished",
    "get_stream",
    "manifest_path",
    "register",
    "write_file",
    "written_rows",
]
