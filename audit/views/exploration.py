"""The exploration: how far it is, its results page by page, and judging them."""

import uuid
from typing import Any
from urllib.parse import parse_qs, urlsplit

from django.http import Http404, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_POST

from audit.forms import RecordingForm, VerdictForm
from audit.models import Exploration, Exposure, Judgment, Verdict
from audit.presentation.results import ExplorationPage, ResultRow
from audit.services import ServiceError, judge, open_page, run_again, undo_judgment
from audit.views.http import (
    RoleRequest,
    comes_from_history,
    fragments,
    role_required,
    see_other,
    status_of,
    wants_fragment,
)

STOP_POLLING = 286
# What follows from a verdict elsewhere on the page.
OUT_OF_BAND = ["audit/_rail.html", "audit/_progress.html", "audit/_toasts.html", "audit/_live.html"]
WITH_RESULTS = ["audit/_results.html", *OUT_OF_BAND]
WITH_RESULT = ["audit/_result.html", "audit/_results_heading.html", *OUT_OF_BAND]


@role_required("work_reports")
@require_GET
def show_exploration(request: RoleRequest, public_id: uuid.UUID) -> HttpResponse:
    """The results; the queries that still run say how far they are."""
    return _page(request, _exploration(public_id))


@role_required("work_reports")
@require_GET
def show_progress(request: RoleRequest, public_id: uuid.UUID) -> HttpResponse:
    """How many queries have run; the last answer shows the results and ends the polling."""
    page = _shown(request, _exploration(public_id))
    context = _context(page) | {"live": _("All queries have run.")}
    if page.is_pending:
        return render(request, "audit/_results.html", context)
    templates = ["audit/_results.html", "audit/_rail.html", "audit/_progress.html", "audit/_live.html"]
    return fragments(request, templates, context, STOP_POLLING)


@role_required("work_reports")
@require_POST
def open_results(request: RoleRequest, public_id: uuid.UUID) -> HttpResponse:
    """Open a page of results: what it shows is logged as exposed."""
    exploration = _exploration(public_id)
    form = RecordingForm(request.POST)
    number = _number(request.POST.get("page", "")) or 1
    sentence, status = "", 200
    if not form.is_valid():
        sentence, status = form.sentence(), 422
    else:
        try:
            open_page(exploration=exploration, user=request.user, number=number, key=form.cleaned_data["key"])
        except ServiceError as error:
            sentence, status = error.sentence, status_of(error)
    if not wants_fragment(request):
        if sentence:
            return _page(request, _exploration(public_id), notice=sentence, status=status)
        return see_other("audit:exploration", public_id, query=f"page={number}")
    page = ExplorationPage(_exploration(public_id), request.user, page=number)
    live = _("%(count)d results to judge.") % {"count": sum(row.is_todo for row in page.rows)}
    context = _context(page) | {"sentence": sentence, "live": sentence or live}
    return fragments(request, WITH_RESULTS, context, status)


@role_required("work_reports")
@require_POST
def run_failed_again(request: RoleRequest, public_id: uuid.UUID) -> HttpResponse:
    """Queue the queries that failed once more."""
    exploration = _exploration(public_id)
    form = RecordingForm(request.POST)
    if not form.is_valid():
        return _page(request, exploration, notice=form.sentence(), status=422)
    try:
        run_again(exploration=exploration, user=request.user, key=form.cleaned_data["key"])
    except ServiceError as error:
        return _page(request, _exploration(public_id), notice=error.sentence, status=status_of(error))
    return see_other("audit:exploration", public_id)


@role_required("work_reports")
@require_POST
def judge_result(request: RoleRequest, public_id: uuid.UUID, query: int, rank: int) -> HttpResponse:
    """One verdict on one result: saved, and on to the next."""
    exposure = _exposure(public_id, query, rank)
    form = VerdictForm(request.POST)
    if not form.is_valid():
        return _judged(request, exposure, sentence=form.sentence(), status=422)
    verdict = Verdict(form.cleaned_data["verdict"])
    try:
        judge(
            exposure=exposure,
            user=request.user,
            verdict=verdict,
            key=form.cleaned_data["key"],
            reason=form.cleaned_data["reason"],
            duration_ms=form.spent_ms(),
        )
    except ServiceError as error:
        return _judged(request, exposure, sentence=error.sentence, status=status_of(error))
    return _judged(request, exposure, done=True)


@role_required("work_reports")
@require_POST
def take_back(request: RoleRequest, public_id: uuid.UUID) -> HttpResponse:
    """Undo a verdict on a result; it is to be judged again, and a removed item returns."""
    judgment = get_object_or_404(
        Judgment.objects.select_related("exposure__run__exploration_query__exploration", "item_text", "report"),
        public_id=public_id,
    )
    exposure = judgment.exposure
    if exposure is None:
        raise Http404
    form = RecordingForm(request.POST)
    if not form.is_valid():
        return _judged(request, exposure, sentence=form.sentence(), status=422)
    try:
        undo_judgment(judgment=judgment, user=request.user, key=form.cleaned_data["key"])
    except ServiceError as error:
        return _judged(request, exposure, sentence=error.sentence, status=status_of(error))
    if comes_from_history(request):
        return see_other("audit:history")
    return _judged(request, exposure, focus=True)


@role_required("work_reports")
@require_GET
def show_detail(request: RoleRequest, public_id: uuid.UUID, query: int, rank: int) -> HttpResponse:
    """The result that the cursor rests on: its whole text, its places, its author."""
    exposure = _exposure(public_id, query, rank)
    if not wants_fragment(request):
        return see_other("audit:item", exposure.item.public_id)
    page = ExplorationPage(exposure.run.exploration_query.exploration, request.user)
    row = page.row_at(exposure.position)
    return render(request, "audit/_detail.html", {"row": row, "page": page})


# --- what the views share -----------------------------------------------------------------------------------------


def _exploration(public_id: uuid.UUID) -> Exploration:
    return get_object_or_404(Exploration.objects.select_related("created_by"), public_id=public_id)


def _exposure(public_id: uuid.UUID, query: int, rank: int) -> Exposure:
    """An exposure is addressed by its exploration, the number of the query there, and the rank."""
    rows = Exposure.objects.select_related("item", "item_text", "run__exploration_query__exploration")
    return get_object_or_404(
        rows,
        run__exploration_query__exploration__public_id=public_id,
        run__exploration_query__position=query,
        rank=rank,
    )


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 7 else 0


def _looked_at(request: RoleRequest) -> int:
    """The query whose results the swapped page shows, 0 for all: what follows from a verdict keeps to it."""
    asked = parse_qs(urlsplit(request.htmx.current_url or "").query)
    return _number(asked.get("query", [""])[0])


def _shown(request: RoleRequest, exploration: Exploration) -> ExplorationPage:
    return ExplorationPage(
        exploration,
        request.user,
        page=_number(request.GET.get("page", "")),
        query=_number(request.GET.get("query", "")),
    )


def _context(page: ExplorationPage) -> dict[str, Any]:
    return {
        "page": page,
        "exploration": page.exploration,
        "base": reverse("audit:exploration", args=[page.exploration.public_id]),  # once, not for every row
        "last_step": _last_step(page),
        "here": "queue",
    }


def _page(request: RoleRequest, exploration: Exploration, *, notice: str = "", status: int = 200) -> HttpResponse:
    page = _shown(request, exploration)
    context = _context(page) | {"notice": notice}
    if wants_fragment(request):
        return fragments(request, WITH_RESULTS, context | {"live": notice, "sentence": notice}, status)
    return render(request, "audit/exploration.html", context, status=status)


def _last_step(page: ExplorationPage) -> dict[str, Any] | None:
    judgment = page.last_undoable
    if judgment is None or judgment.exposure is None:
        return None
    position = judgment.exposure.position
    return {
        "sentence": _("Result %(position)d: %(verdict)s.")
        % {"position": position, "verdict": judgment.get_verdict_display()},
        "undo_url": reverse("audit:undo-judgment", args=[judgment.public_id]),
        "target": f"#exposure-{position}",
    }


def _judged(
    request: RoleRequest,
    exposure: Exposure,
    *,
    sentence: str = "",
    status: int = 200,
    done: bool = False,
    focus: bool = False,
) -> HttpResponse:
    """The row after a verdict, with what follows from it out of band; without script, the page at that row."""
    exploration = _exploration(exposure.run.exploration_query.exploration.public_id)
    if not wants_fragment(request):
        if sentence:
            page = ExplorationPage(exploration, request.user, page=exposure.page)
            return render(request, "audit/exploration.html", _context(page) | {"notice": sentence}, status=status)
        anchor = f"exposure-{exposure.position}"
        return see_other("audit:exploration", exploration.public_id, query=f"page={exposure.page}", anchor=anchor)
    page = ExplorationPage(exploration, request.user, page=exposure.page, query=_looked_at(request))
    row = page.row_at(exposure.position)
    if row is None:
        raise Http404
    context = _context(page) | {
        "row": row,
        "sentence": sentence,
        "is_done": done,
        "wants_focus": focus or bool(sentence),
        "live": sentence or _spoken(row, page),
    }
    return fragments(request, WITH_RESULT, context, status)


def _spoken(row: ResultRow, page: ExplorationPage) -> str:
    figures = {"position": row.exposure.position, "left": page.progress.left}
    if row.own is None:
        return _("Result %(position)d is to be judged again. %(left)d to judge.") % figures
    words = {
        Verdict.TOXIC: _("Result %(position)d toxic. %(left)d to judge."),
        Verdict.NORMAL: _("Result %(position)d normal. %(left)d to judge."),
        Verdict.CANT_TELL: _("Result %(position)d can't tell. %(left)d to judge."),
    }
    return words[Verdict(row.own.verdict)] % figures
