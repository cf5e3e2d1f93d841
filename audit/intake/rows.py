"""What one row of an import must be: read from a JSON object or a CSV record, checked, or refused with one sentence."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from django.utils.dateparse import parse_datetime
from django.utils.translation import gettext as _

from extraction.text import clean_text

MAX_TEXT = 20_000
MAX_REASON = 5_000
_LONGEST = {
    "platform": 40,
    "external_id": 200,
    "item_external_id": 200,
    "author_key": 200,
    "reporter_key": 200,
    "url": 1_000,
    "language": 16,
    "policy": 60,
    "reason": MAX_REASON,
    "text": MAX_TEXT,
}


class RowError(Exception):
    """A row cannot be used. `str(error)` is the sentence for the person who sent it."""


@dataclass(frozen=True, slots=True)
class Problem:
    """A refused row: its line in the file (or index in the request) and why."""

    line: int
    reason: str


@dataclass(frozen=True, slots=True)
class ItemRow:
    """An item as the platform sends it. `language` empty: found from the scripts of the text."""

    platform: str
    external_id: str
    text: str
    created: datetime
    author_key: str = ""
    url: str = ""
    language: str = ""
    line: int = 0

    @property
    def key(self) -> tuple[str, str]:
        return self.platform, self.external_id


@dataclass(frozen=True, slots=True)
class ComplaintRow:
    """A complaint as the platform sends it; `policy` is the key of a policy."""

    platform: str
    external_id: str
    item_external_id: str
    policy: str
    at: datetime
    reporter_key: str = ""
    reason: str = ""
    line: int = 0

    @property
    def key(self) -> tuple[str, str]:
        return self.platform, self.external_id

    @property
    def item_key(self) -> tuple[str, str]:
        return self.platform, self.item_external_id


ITEM_FIELDS = tuple(field.name for field in fields(ItemRow) if field.name != "line")
COMPLAINT_FIELDS = tuple(field.name for field in fields(ComplaintRow) if field.name != "line")
REQUIRED_ITEM_FIELDS = ("external_id", "text", "created")
REQUIRED_COMPLAINT_FIELDS = ("external_id", "item_external_id", "policy", "at")


@dataclass(frozen=True, slots=True)
class RowDefaults:
    """What a row that does not say it itself gets: the platform, and the zone of times without an offset."""

    platform: str = ""
    zone: ZoneInfo | None = None


def item_row(values: Mapping[str, object], *, defaults: RowDefaults, line: int = 0) -> ItemRow:
    """Check the values of one item. Names that are no field are ignored. Raises RowError."""
    return ItemRow(
        platform=_platform(values, defaults),
        external_id=_identifier(values, "external_id"),
        text=_required(values, "text"),
        created=_time(values, "created", defaults.zone),
        author_key=_optional(values, "author_key"),
        url=_url(values),
        language=_optional(values, "language"),
        line=line,
    )


def complaint_row(values: Mapping[str, object], *, defaults: RowDefaults, line: int = 0) -> ComplaintRow:
    """Check the values of one complaint. Names that are no field are ignored. Raises RowError."""
    return ComplaintRow(
        platform=_platform(values, defaults),
        external_id=_identifier(values, "external_id"),
        item_external_id=_identifier(values, "item_external_id"),
        policy=_required(values, "policy"),
        at=_time(values, "at", defaults.zone),
        reporter_key=_optional(values, "reporter_key"),
        reason=_optional(values, "reason"),
        line=line,
    )


def _platform(values: Mapping[str, object], defaults: RowDefaults) -> str:
    platform = _optional(values, "platform").strip() or defaults.platform
    if not platform:
        raise RowError(_("platform is missing, and no default was given."))
    return platform


def _identifier(values: Mapping[str, object], name: str) -> str:
    value = values.get(name)
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    identifier = _checked(name, value).strip()
    if not identifier:
        raise RowError(_("%(name)s is missing.") % {"name": name})
    return identifier


def _required(values: Mapping[str, object], name: str) -> str:
    value = _optional(values, name)
    if not value or value.isspace():
        raise RowError(_("%(name)s is missing or empty.") % {"name": name})
    return value


def _optional(values: Mapping[str, object], name: str) -> str:
    return _checked(name, values.get(name))


def _checked(name: str, value: object) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise RowError(_("%(name)s must be text.") % {"name": name})
    if "\0" in value:
        raise RowError(
            _("%(name)s holds a NUL character (at position %(at)d).") % {"name": name, "at": value.index("\0")}
        )
    cleaned = clean_text(value)
    if len(cleaned) > _LONGEST[name]:
        raise RowError(
            _("%(name)s is %(length)d characters long; at most %(most)d are allowed.")
            % {"name": name, "length": len(cleaned), "most": _LONGEST[name]}
        )
    return cleaned


def _url(values: Mapping[str, object]) -> str:
    url = _optional(values, "url").strip()
    if url and not url.startswith(("http://", "https://")):
        raise RowError(_("url must begin with http:// or https://."))
    return url


def _time(values: Mapping[str, object], name: str, zone: ZoneInfo | None) -> datetime:
    value = values.get(name)
    if value is None or value == "":
        raise RowError(_("%(name)s is missing.") % {"name": name})
    moment = _parsed_time(value)
    if moment is None:
        raise RowError(_("%(name)s must be a time like 2026-05-04T09:30:00+08:00.") % {"name": name})
    if moment.tzinfo is None and zone is None:
        raise RowError(_("%(name)s has no offset from UTC, and no zone was given for the import.") % {"name": name})
    try:
        return (moment if moment.tzinfo else moment.replace(tzinfo=zone)).astimezone(UTC)
    except OverflowError:
        raise RowError(_("%(name)s lies outside the years 1 to 9999.") % {"name": name}) from None


def _parsed_time(value: object) -> datetime | None:
    if not isinstance(value, str):
        return None
    try:
        return parse_datetime(value.strip())
    except ValueError:
        return None
