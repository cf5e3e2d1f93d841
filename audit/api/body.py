"""What a request may send: JSON in UTF-8, of a limited size and depth, and lists of a limited length."""

from collections.abc import Callable, Mapping
from typing import IO, Any, TypeVar

from django.utils.translation import gettext as _
from rest_framework.exceptions import APIException, ParseError
from rest_framework.parsers import BaseParser

from audit.intake.reading import json_value
from audit.intake.rows import ComplaintRow, ItemRow, Problem, RowDefaults, RowError

MAX_BODY = 16 * 1_048_576
MAX_DEPTH = 6
MAX_ROWS = 1_000

Row = TypeVar("Row", ItemRow, ComplaintRow)


class BodyTooLarge(APIException):
    status_code = 413
    default_code = "too_large"


class LimitedJsonParser(BaseParser):
    """JSON that is not read further than `MAX_BODY` bytes nor deeper than `MAX_DEPTH` brackets."""

    media_type = "application/json"

    def parse(
        self, stream: IO[bytes], media_type: str | None = None, parser_context: Mapping[str, Any] | None = None
    ) -> Any:
        raw = stream.read(MAX_BODY + 1)
        if len(raw) > MAX_BODY:
            raise BodyTooLarge(_("The body is larger than %(most)d bytes. Send fewer rows.") % {"most": MAX_BODY})
        try:
            return json_value(raw, MAX_DEPTH)
        except RowError as error:
            raise ParseError(_("The body cannot be used: %(reason)s") % {"reason": error}) from None


def read_list(value: object) -> list[Any]:
    """A list of at most `MAX_ROWS` rows. Raises ParseError."""
    if not isinstance(value, list):
        raise ParseError(_("The body must be a list."))
    if len(value) > MAX_ROWS:
        raise ParseError(
            _("The list has %(rows)d rows; at most %(most)d are allowed.") % {"rows": len(value), "most": MAX_ROWS}
        )
    return value


def read_rows(value: object, parse: Callable[..., Row], platform: str) -> tuple[list[Row], list[Problem]]:
    """The rows of a list that can be used, and those that cannot, each with its index from 0. Raises ParseError."""
    rows: list[Row] = []
    problems: list[Problem] = []
    for index, values in enumerate(read_list(value)):
        try:
            rows.append(_read_row(values, parse, platform, index))
        except RowError as error:
            problems.append(Problem(index, str(error)))
    return rows, problems


def _read_row(values: object, parse: Callable[..., Row], platform: str, index: int) -> Row:
    if not isinstance(values, dict):
        raise RowError(_("must be an object."))
    row = parse(values, defaults=RowDefaults(platform=platform), line=index)
    if row.platform != platform:
        raise RowError(_("this key may only write rows of the platform %(platform)s.") % {"platform": platform})
    return row
