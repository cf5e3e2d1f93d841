"""The work queue: which reports wait, who holds which, and taking one."""

import re
import uuid
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from django.contrib import messages
from django.core.paginator import Page, Paginator
from django.db.models import Count, Q
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, render
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_POST

from audit.forms import QueueFilterForm, RecordingForm
from audit.models import Report, ReportStatus, Suggestion
from audit.presentation.log import closed_today
from audit.querysets import ReportQuerySet
from audit.services import AlreadyRecorded, Conflict, claim, take_next
from audit.views.http import RoleRequest, fragments, role_required, see_other, status_of, wants_fragment

PAGE_SIZE = 50
ORDERS = {
    "due": ("due", "id"),
    "complaints": ("-complaint_count", "due", "id"),
    "newest": ("-id",),
}
NUMBER = re.compile(r"[Rr]-?(\d{1,18})")


@dataclass(frozen=True)
class QueueRow:
    """A report in the list, with what the row says about it."""

    report: Report
    suggestion_count: int
    claim: str  # free, mine, taken, closed

    @property
    def dom_id(self) -> str:
        return f"report-{self.report.pk}"


@role_required("work_reports")
@require_GET
def show_queue(request: RoleRequest) -> HttpResponse:
    """The list of reports; what is filtered stands in the address."""
    form = QueueFilterForm(request.GET)
    context = queue_context(request, form)
    status = 200 if form.is_valid() else 422
    if wants_fragment(request):
        return fragments(request, ["audit/_reports.html", "audit/_newer.html", "audit/_views.html"], context, status)
    return render(request, "audit/queue.html", context, status=status)


@role_required("work_reports")
@require_GET
def show_newer(request: RoleRequest) -> HttpResponse:
    """How many reports came since the list was shown; the list itself changes only when asked to."""
    form = QueueFilterForm(request.GET)
    form.is_valid()
    after = request.GET.get("after", "")
    newest = int(after) if after.isascii() and after.isdigit() and len(after) < 19 else 0
    count = _filtered(form, request).filter(pk__gt=newest).count()
    context = {"newer": count, "newest": newest, "query": _query(form), "shown_since": request.GET.get("since", "")[:5]}
    return render(request, "audit/_newer.html", context)


@role_required("work_reports")
@require_POST
def take_next_report(request: RoleRequest) -> HttpResponse:
    """Claim the report that is due first and open it."""
    form = RecordingForm(request.POST)
    if not form.is_valid():
        context = queue_context(request, QueueFilterForm(request.GET)) | {"notice": form.sentence()}
        return render(request, "audit/queue.html", context, status=422)
    try:
        report = take_next(user=request.user, key=form.cleaned_data["key"])
    except AlreadyRecorded:
        report = Report.objects.held_by(request.user).in_queue_order().first()
    if report is None:
        messages.info(request, _("No report waits for anyone. New ones appear here by themselves."))
        return see_other("audit:queue")
    return see_other("audit:report", report.public_id)


@role_required("work_reports")
@require_POST
def claim_report(request: RoleRequest, public_id: uuid.UUID) -> HttpResponse:
    """Claim one report: from the list its row changes, from its own page the page."""
    report = get_object_or_404(_with_rows(), public_id=public_id)
    form = RecordingForm(request.POST)
    sentence, status = "", 200
    if not form.is_valid():
        sentence, status = form.sentence(), 422
    else:
        try:
            claim(report=report, user=request.user, key=form.cleaned_data["key"])
        except Conflict as error:
            sentence, status = error.sentence, status_of(error)
    if wants_fragment(request):
        report = get_object_or_404(_with_rows(), public_id=public_id)
        return _row(request, report, sentence, status)
    if sentence:
        return render(request, "409.html", {"sentence": sentence}, status=status)
    return see_other("audit:report", report.public_id)


def queue_context(request: RoleRequest, form: QueueFilterForm) -> dict[str, Any]:
    """Everything the list shows, in a number of queries that does not grow with it."""
    reports = _filtered(form, request)
    page = Paginator(reports, PAGE_SIZE).get_page(request.GET.get("page"))
    newest = Report.objects.order_by("-pk").values_list("pk", flat=True).first() or 0
    return {
        "here": "queue",
        "form": form,
        "query": _query(form),
        "shown_status": (form.cleaned_data.get("status") if form.is_valid() else "") or "waiting",
        "is_filtered": any(
            form.cleaned_data.get(name) for name in ("text", "policy", "language", "complaints", "claim")
        ),
        "page": page,
        "rows": _rows(page, request),
        "newer": 0,
        "newest": newest,
        "counts": _counts(request),
    }


def _counts(request: RoleRequest) -> dict[str, int]:
    waiting = Report.objects.open().aggregate(
        waiting=Count("pk"), overdue=Count("pk", filter=Q(due__lt=timezone.now()))
    )
    mine = Report.objects.held_rows(request.user).count()
    return waiting | {"mine": mine, "closed_today": closed_today(request.user)}


def _with_rows() -> ReportQuerySet:
    rows: ReportQuerySet = Report.objects.select_related("item", "item_text", "policy", "claimed_by")
    return rows


def _filtered(form: QueueFilterForm, request: RoleRequest) -> ReportQuerySet:
    wanted = form.cleaned_data if form.is_valid() else {}
    reports = _of_status(wanted.get("status") or "waiting", request)
    if text := wanted.get("text"):
        reports = reports.filter(_named(text))
    if policy := wanted.get("policy"):
        reports = reports.filter(policy=policy)
    if language := wanted.get("language"):
        reports = reports.filter(item_text__language=language)
    if complaints := wanted.get("complaints"):
        reports = reports.filter(complaint_count__gte=int(complaints))
    if wanted.get("claim") == "free":
        reports = reports.free()
    elif wanted.get("claim") == "taken":
        reports = reports.filter(lease_until__gt=timezone.now()).exclude(claimed_by=request.user)
    return reports.order_by(*ORDERS[wanted.get("order") or "due"])


def _of_status(status: str, request: RoleRequest) -> ReportQuerySet:
    rows = _with_rows()
    if status == "waiting":
        return rows.open()
    if status == "mine":
        return rows.held_rows(request.user)
    rows = rows.filter(status=ReportStatus.CLOSED)
    return rows if status == "closed" else rows.filter(outcome=status)


def _named(text: str) -> Q:
    """A report number, the platform's id of an item, or an author: each exactly (texts are searched by the engine)."""
    if number := NUMBER.fullmatch(text):
        return Q(pk=int(number[1]))
    return Q(item__external_id=text) | Q(item__author_key=text)


def _query(form: QueueFilterForm) -> str:
    """The filters as they stand in an address, without what is empty and without the page."""
    return urlencode([(name, form.data[name]) for name in form.fields if form.data.get(name)])


def _rows(page: Page[Report], request: RoleRequest) -> list[QueueRow]:
    reports = list(page.object_list)
    batches = [report.batch_id for report in reports if report.batch_id]
    counted = Suggestion.objects.filter(batch__in=batches).order_by().values_list("batch").annotate(Count("pk"))
    counts: dict[int, int] = dict(counted)
    return [
        QueueRow(report, counts.get(report.batch_id or 0, 0), claim_of(report, request.user.pk)) for report in reports
    ]


def claim_of(report: Report, user_id: int) -> str:
    """How a report stands to this user: free, mine, taken (by another) or closed."""
    if report.status == ReportStatus.CLOSED:
        return "closed"
    if report.is_held_by(user_id):
        return "mine"
    return "free" if report.is_free else "taken"


def _row(request: RoleRequest, report: Report, sentence: str, status: int) -> HttpResponse:
    count = Suggestion.objects.filter(batch=report.batch_id).count() if report.batch_id else 0
    context = {
        "row": QueueRow(report, count, claim_of(report, request.user.pk)),
        "sentence": sentence,
        "is_current": True,
        "live": sentence or _("%(number)s is yours.") % {"number": report.number},
    }
    return fragments(request, ["audit/_report_row.html", "audit/_live.html"], context, status)
