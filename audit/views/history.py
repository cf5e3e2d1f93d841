"""One's own history, and the page of one item with its reinstatement."""

import uuid
from datetime import datetime

from django.http import HttpResponse
from django.shortcuts import get_object_or_404, render
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from django.views.decorators.http import require_GET, require_POST

from audit.forms import HistoryFilterForm, ReinstateForm
from audit.models import Item, ItemState, Report, StandingVerdict
from audit.presentation.log import log_page, today_of
from audit.services import ServiceError, reinstate
from audit.views.http import RoleRequest, role_required, see_other, status_of, wants_fragment


@role_required("work_reports")
@require_GET
def show_history(request: RoleRequest) -> HttpResponse:
    """What this person did, newest first; every line that can be taken back has its undo."""
    form = HistoryFilterForm(request.GET)
    is_valid = form.is_valid()
    what = form.cleaned_data["what"] if is_valid else ""
    page = log_page(request.user, what=what, before=_moment(request.GET.get("before", "")))
    context = {"here": "history", "form": form, "what": what, "page": page, "today": today_of(request.user)}
    template = "audit/_log.html" if wants_fragment(request) else "audit/history.html"
    return render(request, template, context, status=200 if is_valid else 422)


@role_required("work_reports")
@require_GET
def show_item(request: RoleRequest, public_id: uuid.UUID) -> HttpResponse:
    """One item: its texts, its reports, how it left the results and came back."""
    return _item_page(request, public_id)


@role_required("work_reports")
@require_POST
def reinstate_item(request: RoleRequest, public_id: uuid.UUID) -> HttpResponse:
    """Bring a removed item back into the results, with a reason."""
    item = get_object_or_404(Item, public_id=public_id)
    form = ReinstateForm(request.POST)
    if not form.is_valid():
        return _item_page(request, public_id, sentence=form.sentence(), status=422)
    data = form.cleaned_data
    try:
        reinstate(item=item, user=request.user, reason=data["reason"], key=data["key"])
    except ServiceError as error:
        typed = data["reason"]
        return _item_page(request, public_id, sentence=error.sentence, status=status_of(error), typed=typed)
    return see_other("audit:item", public_id)


def _item_page(
    request: RoleRequest, public_id: uuid.UUID, *, sentence: str = "", status: int = 200, typed: str = ""
) -> HttpResponse:
    item = get_object_or_404(Item.objects.select_related("text"), public_id=public_id)
    context = {
        "item": item,
        "texts": item.texts.order_by("-id"),
        "verdicts": _verdicts_on(item),
        "removals": item.removals.select_related("user", "judgment__user").order_by("-id"),
        "reports": Report.objects.filter(item=item).select_related("policy").order_by("-id"),
        "is_removed": item.state == ItemState.REMOVED,
        "sentence": sentence,
        "typed": typed,
    }
    return render(request, "audit/item.html", context, status=status)


def _verdicts_on(item: Item) -> list[StandingVerdict]:
    """The standing verdicts on its texts."""
    rows = StandingVerdict.objects.filter(item_text__item=item).exclude(verdict="", is_disputed=False)
    return list(rows.select_related("policy_version__policy", "judgment__user", "item_text").order_by("-judgment"))


def _moment(text: str) -> datetime | None:
    try:
        moment = parse_datetime(text)
    except ValueError:
        return None
    return timezone.make_aware(moment) if moment and timezone.is_naive(moment) else moment
