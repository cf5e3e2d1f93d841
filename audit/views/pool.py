"""Judging what evaluations need judged: the next texts, their policy, and verdicts, with the source hidden."""

import uuid
from typing import Any

from django.http import Http404, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_POST

from audit.forms import RecordingForm, VerdictForm
from audit.models import Judgment, PoolItem, Verdict
from audit.presentation.pool import PoolPage, PoolRow
from audit.services import ServiceError, judge_pool_item, undo_judgment
from audit.views.http import (
    RoleRequest,
    comes_from_history,
    fragments,
    role_required,
    see_other,
    status_of,
    wants_fragment,
)

WITH_ROW = [
    "audit/_pool_row.html",
    "audit/_pool_heading.html",
    "audit/_pool_progress.html",
    "audit/_toasts.html",
    "audit/_live.html",
]


@role_required("work_reports")
@require_GET
def show_pool(request: RoleRequest) -> HttpResponse:
    """The next texts to judge."""
    return render(request, "audit/pool.html", _context(PoolPage(request.user)))


@role_required("work_reports")
@require_GET
def show_pool_item(request: RoleRequest, public_id: uuid.UUID) -> HttpResponse:
    """The text that the cursor rests on with the wording of its policy; without script, a page of that text alone."""
    page = PoolPage(request.user, item=_item(public_id))
    if not wants_fragment(request):
        return render(request, "audit/pool.html", _context(page))
    return render(request, "audit/_pool_detail.html", {"row": page.rows[0]})


@role_required("work_reports")
@require_POST
def judge_pooled(request: RoleRequest, public_id: uuid.UUID) -> HttpResponse:
    """One verdict on one text: saved, and on to the next."""
    item = _item(public_id)
    form = VerdictForm(request.POST)
    if not form.is_valid():
        return _judged(request, item, sentence=form.sentence(), status=422)
    try:
        judge_pool_item(
            pool_item=item,
            user=request.user,
            verdict=Verdict(form.cleaned_data["verdict"]),
            key=form.cleaned_data["key"],
            reason=form.cleaned_data["reason"],
            duration_ms=form.spent_ms(),
        )
    except ServiceError as error:
        return _judged(request, item, sentence=error.sentence, status=status_of(error))
    return _judged(request, item, done=True)


@role_required("work_reports")
@require_POST
def take_back_pooled(request: RoleRequest, public_id: uuid.UUID) -> HttpResponse:
    """Undo a verdict on a pooled text; it is to be judged again."""
    judgment = get_object_or_404(Judgment.objects.select_related("item_text", "report"), public_id=public_id)
    if judgment.pool_item is None:
        raise Http404
    item = _item(judgment.pool_item.public_id)
    form = RecordingForm(request.POST)
    if not form.is_valid():
        return _judged(request, item, sentence=form.sentence(), status=422)
    try:
        undo_judgment(judgment=judgment, user=request.user, key=form.cleaned_data["key"])
    except ServiceError as error:
        return _judged(request, item, sentence=error.sentence, status=status_of(error))
    if comes_from_history(request):
        return see_other("audit:history")
    return _judged(request, item, focus=True)


# --- what the views share -----------------------------------------------------------------------------------------


def _item(public_id: uuid.UUID) -> PoolItem:
    rows = PoolItem.objects.select_related("item_text__item", "policy_version__policy")
    return get_object_or_404(rows, public_id=public_id)


def _context(page: PoolPage) -> dict[str, Any]:
    return {"page": page, "last_step": _last_step(page), "here": "pool"}


def _last_step(page: PoolPage) -> dict[str, Any] | None:
    judgment = page.last_undoable
    if judgment is None or judgment.pool_item is None:
        return None
    return {
        "sentence": _("Text %(position)d: %(verdict)s.")
        % {"position": judgment.pool_item.position, "verdict": judgment.get_verdict_display()},
        "undo_url": reverse("audit:undo-pooled", args=[judgment.public_id]),
        "target": f"#{PoolRow(judgment.pool_item).dom_id}",
    }


def _judged(
    request: RoleRequest,
    item: PoolItem,
    *,
    sentence: str = "",
    status: int = 200,
    done: bool = False,
    focus: bool = False,
) -> HttpResponse:
    """The row after a verdict, with what follows from it out of band; without script, the next texts."""
    page = PoolPage(request.user, item=item)
    if not wants_fragment(request):
        if sentence:
            return render(request, "audit/pool.html", _context(page) | {"notice": sentence}, status=status)
        return see_other("audit:pool") if done else see_other("audit:pool-item", item.public_id)
    row = page.rows[0]
    context = _context(page) | {
        "row": row,
        "sentence": sentence,
        "is_done": done,
        "wants_focus": focus or bool(sentence),
        "live": sentence or _spoken(row, page),
    }
    return fragments(request, WITH_ROW, context, status)


def _spoken(row: PoolRow, page: PoolPage) -> str:
    figures = {"position": row.item.position, "left": page.left}
    if row.own is None:
        return _("Text %(position)d is to be judged again. %(left)d to judge.") % figures
    words = {
        Verdict.TOXIC: _("Text %(position)d toxic. %(left)d to judge."),
        Verdict.NORMAL: _("Text %(position)d normal. %(left)d to judge."),
        Verdict.CANT_TELL: _("Text %(position)d can't tell. %(left)d to judge."),
    }
    return words[Verdict(row.own.verdict)] % figures
