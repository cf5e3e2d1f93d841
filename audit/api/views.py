"""The calls of the API. Each checks key and body, calls one service of the intake or the outbox, and answers JSON."""

import logging
from collections.abc import Iterable
from typing import cast

from django.utils.translation import gettext as _
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.decorators import api_view, authentication_classes, parser_classes, permission_classes
from rest_framework.exceptions import ParseError
from rest_framework.request import Request
from rest_framework.response import Response

from audit import outbox
from audit.api import schemas
from audit.api.auth import ApiKeyAuthentication, MayReadVerdicts, MayWriteComplaints, MayWriteItems
from audit.api.body import LimitedJsonParser, read_list, read_rows
from audit.indexing import index_items
from audit.intake import IntakeCounts, Problem, complaint_row, item_row, mark_gone, store_complaints, store_items
from audit.models import ApiKey
from extraction.errors import SearchError

LARGEST_CURSOR = 2**63 - 1
DEFAULT_FEED = 100

logger = logging.getLogger(__name__)

_ERRORS = dict.fromkeys((400, 401, 403, 413, 415), schemas.ErrorSchema)


@extend_schema(
    operation_id="write_items",
    summary="Create or update items",
    description="At most 1,000 at once, told apart by platform and external id. 422: every row was refused.",
    request=schemas.ItemSchema(many=True),
    responses={200: schemas.IntakeSchema, 422: schemas.IntakeSchema, **_ERRORS},
)
@api_view(["POST"])
@authentication_classes([ApiKeyAuthentication])
@permission_classes([MayWriteItems])
@parser_classes([LimitedJsonParser])
def write_items(request: Request) -> Response:
    rows, problems = read_rows(request.data, item_row, _platform(request))
    counts = store_items(rows)
    _index(counts.ids)
    return _answer(counts, problems)


@extend_schema(
    operation_id="items_gone",
    summary="Say that the platform took items down",
    request=schemas.GoneRequestSchema,
    responses={200: schemas.GoneSchema, **_ERRORS},
)
@api_view(["POST"])
@authentication_classes([ApiKeyAuthentication])
@permission_classes([MayWriteItems])
@parser_classes([LimitedJsonParser])
def items_gone(request: Request) -> Response:
    ids, unknown = mark_gone(_platform(request), _external_ids(request.data))
    _index(ids)
    return Response({"gone": len(ids), "unknown": unknown})


@extend_schema(
    operation_id="write_complaints",
    summary="Hand in users' complaints",
    description="At most 1,000 at once. Complaints about one item become one report. 422: every row was refused.",
    request=schemas.ComplaintSchema(many=True),
    responses={200: schemas.IntakeSchema, 422: schemas.IntakeSchema, **_ERRORS},
)
@api_view(["POST"])
@authentication_classes([ApiKeyAuthentication])
@permission_classes([MayWriteComplaints])
@parser_classes([LimitedJsonParser])
def write_complaints(request: Request) -> Response:
    rows, problems = read_rows(request.data, complaint_row, _platform(request))
    return _answer(store_complaints(rows), problems)


@extend_schema(
    operation_id="read_verdicts",
    summary="Fetch verdicts, removals and reinstatements",
    description="Oldest first. Keep `next` and send it as `after`: then no event is missed and none comes twice.",
    parameters=[
        OpenApiParameter("after", int, description="The cursor: 0 at first, then `next` of the call before."),
        OpenApiParameter("limit", int, description=f"1 to {outbox.MAX_FEED}; {DEFAULT_FEED} where none is given."),
    ],
    responses={200: schemas.FeedSchema, **_ERRORS},
)
@api_view(["GET"])
@authentication_classes([ApiKeyAuthentication])
@permission_classes([MayReadVerdicts])
def read_verdicts(request: Request) -> Response:
    page = outbox.feed(
        after=_whole_number(request, "after", default=0, low=0, high=LARGEST_CURSOR),
        limit=_whole_number(request, "limit", default=DEFAULT_FEED, low=1, high=outbox.MAX_FEED),
        platform=_platform(request),
    )
    return Response({"events": page.events, "next": page.next, "more": page.more})


def _platform(request: Request) -> str:
    return cast(ApiKey, request.auth).platform


def _answer(counts: IntakeCounts, refused: list[Problem]) -> Response:
    problems = sorted([*refused, *counts.problems], key=lambda problem: problem.line)
    stored = counts.created + counts.changed + counts.same
    return Response(
        {
            "created": counts.created,
            "changed": counts.changed,
            "same": counts.same,
            "problems": [{"index": problem.line, "reason": problem.reason} for problem in problems],
        },
        status=422 if problems and not stored else 200,
    )


def _index(ids: Iterable[int]) -> None:
    """Index at once what was stored; where the engine is down, the sweeper does it later."""
    try:
        index_items(ids)
    except SearchError as error:
        logger.warning("Items of the API wait for the sweeper: %s", error)


def _external_ids(value: object) -> list[str]:
    if not isinstance(value, dict) or "external_ids" not in value:
        raise ParseError(_("The body must be an object with external_ids."))
    ids = [str(one) if type(one) is int else one for one in read_list(value["external_ids"])]
    for index, one in enumerate(ids):
        if not isinstance(one, str) or not one or len(one) > 200 or "\0" in one:
            raise ParseError(_("external_ids, index %(index)d: is no external id.") % {"index": index})
    return ids


def _whole_number(request: Request, name: str, *, default: int, low: int, high: int) -> int:
    word = request.query_params.get(name, str(default))
    if not (word.isascii() and word.isdigit() and len(word) <= 19 and low <= int(word) <= high):
        raise ParseError(
            _("%(name)s must be a whole number from %(low)d to %(high)d.") % {"name": name, "low": low, "high": high}
        )
    return int(word)
