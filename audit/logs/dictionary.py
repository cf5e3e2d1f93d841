"""The data dictionary, made from the declarations of the streams so that it cannot disagree with them."""

import json
from hashlib import sha256
from pathlib import Path

from audit.logs.masking import MASK_RULES
from audit.logs.reading import Stream

_HEAD = Path(__file__).with_name("dictionary_head.md")


def render(streams: list[Stream]) -> str:
    """The whole dictionary as Markdown."""
    head = _HEAD.read_text(encoding="utf-8").format(mask_rules=MASK_RULES)
    return "\n".join([head, *(_section(stream) for stream in streams)])


def digest(stream: Stream) -> str:
    """SHA-256 of what is declared of one stream: equal digests mean equal columns with equal meanings."""
    declared = [[column.name, column.type.value, column.about] for column in stream.columns]
    return sha256(json.dumps([stream.name, stream.version, declared], ensure_ascii=False).encode()).hexdigest()


def _section(stream: Stream) -> str:
    rows = [f"| `{column.name}` | {column.type.value} | {column.about} |" for column in stream.columns]
    return "\n".join(
        [
            f"## {stream.name}, schema version {stream.version}",
            stream.about,
            "",
            "| column | type | meaning |",
            "|---|---|---|",
            *rows,
            "",
        ]
    )
