"""Plain INSERTs for the two tables that an import fills by the million: `bulk_create` takes four times as long."""

import uuid
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from django.db import connection

from audit.models import Item, ItemState

_ITEM = (
    "INSERT INTO audit_item (public_id, platform, external_id, author_key, url, created, imported, state, version, "
    "indexed_version) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, 1, 0)"
)
_TEXT = (
    "INSERT INTO audit_itemtext (item_id, text, text_hash, norm_hash, analysis, language, at) "
    "VALUES (%s, %s, %s, %s, %s, %s, %s)"
)


def insert_items(rows: Iterable[tuple[str, str, str, str, datetime]], now: datetime) -> None:
    """New live items without a text: (platform, external id, author key, url, created). Raises IntegrityError."""
    public_id = Item._meta.get_field("public_id")
    imported = _time(now)
    _insert(
        _ITEM,
        (
            (
                public_id.get_db_prep_value(uuid.uuid4(), connection),
                platform,
                external_id,
                author_key,
                url,
                _time(created),
                imported,
                ItemState.LIVE.value,
            )
            for platform, external_id, author_key, url, created in rows
        ),
    )


def insert_texts(rows: Iterable[tuple[int, str, str, str, str, str]], now: datetime) -> None:
    """New item texts: (item id, text, text hash, norm hash, analysis, language)."""
    at = _time(now)
    _insert(_TEXT, ((*row, at) for row in rows))


def _time(moment: datetime) -> Any:
    return connection.ops.adapt_datetimefield_value(moment)


def _insert(statement: str, rows: Iterable[tuple[Any, ...]]) -> None:
    values = list(rows)
    if values:
        with connection.cursor() as cursor:
            cursor.executemany(statement, values)
