"""The report page: judge the reported text, decide on queries, run them, end the work."""

import uuid
from collections.abc import Callable
from typing import Any

from django.contrib import messages
from django.db.models import QuerySet
from django.http import Http404, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_GET, require_POST

from audit.forms import CloseForm, DecisionForm, OwnQueryForm, RecordingForm, ReportVerdictForm, TrialForm
from audit.models import Decision, DecisionKind, Judgment, Outcome, Policy, Report, Suggestion, Verdict
from audit.presentation.report import QueryRow, Workbench
from audit.services import (
    Conflict,
    NotHeld,
    ServiceError,
    add_own_query,
    close,
    decide,
    explore,
    forecast,
    heartbeat,
    judge_report,
    release,
    reveal_suggestions,
    take_next,
    undo_decision,
    undo_judgment,
)
from audit.views.http import (
    RoleRequest,
    comes_from_history,
    fragments,
    role_required,
    see_other,
    status_of,
    wants_fragment,
)
from audit.views.queue import claim_of
from extraction.text import MatchMode

REASONS = {
    Outcome.SKIPPED: [
        gettext_lazy("I am not sure which policy applies"),
        gettext_lazy("I do not read this language well"),
        gettext_lazy("I would rather not read this one"),
    ],
    Outcome.ESCALATED: [
        gettext_lazy("The policy does not cover this"),
        gettext_lazy("It may be urgent: someone could come to harm"),
    ],
}
# What follows from a decision elsewhere on the page.
OUT_OF_BAND = ["audit/_report_text.html", "audit/_tray.html", "audit/_toasts.html", "audit/_live.html"]


@role_required("work_reports")
@require_GET
def show_report(request: RoleRequest, public_id: uuid.UUID) -> HttpResponse:
    """The workbench; somebody else's report can be read."""
    editing = request.GET.get("edit", "")
    return _page(request, _report(public_id), editing=editing)


@role_required("work_reports")
@require_GET
def show_lease(request: RoleRequest, public_id: uuid.UUID) -> HttpResponse:
    return render(request, "audit/_lease.html", _bar(request, _report(public_id)))


@role_required("work_reports")
@require_POST
def beat(request: RoleRequest, public_id: uuid.UUID) -> HttpResponse:
    """Extend the lease while the person works."""
    report, sentence, status = _report(public_id), "", 200
    try:
        heartbeat(report=report, user=request.user)
    except NotHeld as error:
        sentence, status = error.sentence, 409
    if wants_fragment(request):
        context = _bar(request, _report(public_id)) | {"sentence": sentence}
        return render(request, "audit/_lease.html", context, status=status)
    return _answer(request, public_id, sentence, status)


@role_required("work_reports")
@require_POST
def judge_reported_text(request: RoleRequest, public_id: uuid.UUID) -> HttpResponse:
    """The first verdict: on the reported text itself, under the policy that fits."""
    report = _report(public_id)
    form = ReportVerdictForm(request.POST)
    if not form.is_valid():
        return _page(request, report, notice=form.sentence(), status=422, first=form)
    data = form.cleaned_data
    try:
        judge_report(
            report=report,
            user=request.user,
            verdict=Verdict(data["verdict"]),
            policy=data["policy"],
            key=data["key"],
            reason=data["reason"],
            duration_ms=form.spent_ms(),
        )
    except ServiceError as error:
        return _page(request, _report(public_id), notice=error.sentence, status=status_of(error), first=form)
    return see_other("audit:report", public_id)


@role_required("work_reports")
@require_POST
def release_report(request: RoleRequest, public_id: uuid.UUID) -> HttpResponse:
    return _step(request, public_id, lambda report, key: release(report=report, user=request.user, key=key))


@role_required("work_reports")
@require_POST
def reveal(request: RoleRequest, public_id: uuid.UUID) -> HttpResponse:
    return _step(request, public_id, lambda report, key: reveal_suggestions(report=report, user=request.user, key=key))


@role_required("work_reports")
@require_GET
def show_close_form(request: RoleRequest, public_id: uuid.UUID, outcome: str) -> HttpResponse:
    """Skip or escalate: the form, in a sheet over the report or as a page."""
    return _close_form(request, _report(public_id), outcome)


@role_required("work_reports")
@require_POST
def close_report(request: RoleRequest, public_id: uuid.UUID) -> HttpResponse:
    """Skip or escalate, with a reason, and go back to the queue."""
    report = _report(public_id)
    form = CloseForm(request.POST)
    if not form.is_valid():
        return _close_form(request, report, request.POST.get("outcome", ""), sentence=form.sentence(), status=422)
    outcome = Outcome(form.cleaned_data["outcome"])
    try:
        close(report=report, user=request.user, outcome=outcome, key=form.cleaned_data["key"], reason=form.reason())
    except Conflict as error:
        return _answer(request, public_id, error.sentence, status_of(error))
    except ServiceError as error:
        return _close_form(request, report, outcome.value, sentence=error.sentence, status=status_of(error))
    words = _("%(number)s is skipped.") if outcome == Outcome.SKIPPED else _("%(number)s is escalated.")
    messages.info(request, words % {"number": report.number})
    return see_other("audit:queue")


@role_required("work_reports")
@require_POST
def finish(request: RoleRequest, public_id: uuid.UUID) -> HttpResponse:
    """Done: close the report as confirmed and take the next one."""
    report = _report(public_id)
    form = RecordingForm(request.POST)
    if not form.is_valid():
        return _answer(request, public_id, form.sentence(), 422)
    key = form.cleaned_data["key"]
    try:
        close(report=report, user=request.user, outcome=Outcome.CONFIRMED, key=key)
    except ServiceError as error:
        return _answer(request, public_id, error.sentence, status_of(error))
    following = take_next(user=request.user, key=uuid.uuid5(key, "next"))
    if following is None:
        messages.info(request, _("%(number)s is done. No other report waits.") % {"number": report.number})
        return see_other("audit:queue")
    messages.info(request, _("%(number)s is done. This is the next.") % {"number": report.number})
    return see_other("audit:report", following.public_id)


@role_required("work_reports")
@require_POST
def run(request: RoleRequest, public_id: uuid.UUID) -> HttpResponse:
    """Run the accepted queries together; the exploration's page shows how far it is."""
    report = _report(public_id)
    form = RecordingForm(request.POST)
    if not form.is_valid():
        return _answer(request, public_id, form.sentence(), 422)
    try:
        exploration = explore(reports=[report], user=request.user, key=form.cleaned_data["key"])
    except ServiceError as error:
        return _answer(request, public_id, error.sentence, status_of(error))
    return see_other("audit:exploration", exploration.public_id)


# --- queries ------------------------------------------------------------------------------------------------------


@role_required("work_reports")
@require_POST
def add_query(request: RoleRequest, public_id: uuid.UUID) -> HttpResponse:
    """A query of one's own, typed or marked in the text."""
    report = _report(public_id)
    form = OwnQueryForm(request.POST)
    if not form.is_valid():
        return _own_query_refused(request, report, form.sentence(), 422)
    span = form.span()
    text = report.item_text.text[slice(*span)] if span else form.cleaned_data["text"]
    try:
        decision = add_own_query(
            report=report,
            user=request.user,
            text=text,
            mode=form.match_mode(),
            key=form.cleaned_data["key"],
            span=span if text == text.strip() else None,
            duration_ms=form.spent_ms(),
        )
    except ServiceError as error:
        return _own_query_refused(request, _report(public_id), error.sentence, status_of(error), typed=text)
    if not wants_fragment(request):
        return see_other("audit:report", public_id, anchor=f"decision-{decision.public_id}")
    live = _("“%(text)s” is among the queries.") % {"text": decision.text}
    return _queries(request, public_id, live=live)


@role_required("work_reports")
@require_GET
def show_queries(request: RoleRequest, public_id: uuid.UUID) -> HttpResponse:
    """The queries anew, when suggestions have arrived."""
    if not wants_fragment(request):
        return see_other("audit:report", public_id)
    return _queries(request, public_id, live=_("The suggestions are shown."))


@role_required("work_reports")
@require_GET
def await_suggestions(request: RoleRequest, public_id: uuid.UUID) -> HttpResponse:
    """Whether the suggestions are ready; 286 ends the polling."""
    bench = Workbench(_report(public_id), request.user)
    status = 200 if bench.is_waiting_for_suggestions else 286
    return render(request, "audit/_suggestions_wait.html", {"bench": bench, "report": bench.report}, status=status)


@role_required("work_reports")
@require_GET
def try_phrase(request: RoleRequest, public_id: uuid.UUID) -> HttpResponse:
    """What a typed phrase would find: figures only, nothing is stored."""
    form = TrialForm(request.GET)
    text = form.cleaned_data["text"].strip() if form.is_valid() else ""
    return render(request, "audit/_own_forecast.html", _trial(_report(public_id), text, form))


@role_required("work_reports")
@require_GET
def show_selection(request: RoleRequest, public_id: uuid.UUID) -> HttpResponse:
    """The phrase marked in the text, with its forecast, ready to become a query."""
    report = _report(public_id)
    form = TrialForm(request.GET)
    form.is_valid()
    raw = report.item_text.text
    start, end = form.cleaned_data.get("start") or 0, form.cleaned_data.get("end") or 0
    # Spaces at the ends are marked by accident; the phrase is what lies between them.
    text = raw[start:end]
    start, end = start + len(text) - len(text.lstrip()), end - len(text) + len(text.rstrip())
    context = _trial(report, raw[start:end], form) | {"start": start, "end": end}
    return render(request, "audit/_selection.html", context)


@role_required("work_reports")
@require_GET
def show_suggestion(request: RoleRequest, public_id: uuid.UUID, edit: bool = False) -> HttpResponse:
    """One suggestion's row, as it is or being edited in place."""
    suggestion = _suggestion(public_id)
    if not wants_fragment(request):
        anchor = f"suggestion-{public_id}"
        return see_other(
            "audit:report", suggestion.report.public_id, query=f"edit={public_id}" if edit else "", anchor=anchor
        )
    return _row(request, suggestion=suggestion, editing=edit, focus=not edit)


@role_required("work_reports")
@require_POST
def decide_suggestion(request: RoleRequest, public_id: uuid.UUID) -> HttpResponse:
    """Accept, edit or reject."""
    suggestion = _suggestion(public_id)
    form = DecisionForm(request.POST)
    if not form.is_valid():
        return _decision_refused(request, suggestion, form.sentence(), 422, form)
    kind = DecisionKind(form.cleaned_data["decision"])
    try:
        decide(
            suggestion=suggestion,
            user=request.user,
            kind=kind,
            key=form.cleaned_data["key"],
            text=form.cleaned_data["text"],
            duration_ms=form.spent_ms(),
        )
    except ServiceError as error:
        return _decision_refused(request, suggestion, error.sentence, status_of(error), form)
    if not wants_fragment(request):
        return see_other("audit:report", suggestion.report.public_id, anchor=f"suggestion-{public_id}")
    return _row(request, suggestion=suggestion, done=True)


@role_required("work_reports")
@require_POST
def take_back_decision(request: RoleRequest, public_id: uuid.UUID) -> HttpResponse:
    """Undo a decision: the suggestion is pending again, an own query leaves the list."""
    decision = get_object_or_404(Decision.objects.select_related("report", "suggestion"), public_id=public_id)
    report = decision.report
    form = RecordingForm(request.POST)
    sentence, status = "", 200
    if not form.is_valid():
        sentence, status = form.sentence(), 422
    else:
        try:
            undo_decision(decision=decision, user=request.user, key=form.cleaned_data["key"])
        except ServiceError as error:
            sentence, status = error.sentence, status_of(error)
    if not wants_fragment(request):
        if sentence:
            return _answer(request, report.public_id, sentence, status)
        if comes_from_history(request):
            return see_other("audit:history")
        return see_other("audit:report", report.public_id)
    if decision.suggestion is None:
        return _queries(request, report.public_id, live=sentence or _("Taken back."), sentence=sentence, status=status)
    if sentence:
        return _row(request, suggestion=decision.suggestion, sentence=sentence, status=status)
    return _row(request, suggestion=decision.suggestion, focus=True)


@role_required("work_reports")
@require_POST
def take_back_verdict(request: RoleRequest, public_id: uuid.UUID) -> HttpResponse:
    """Undo the verdict on the reported text: the report is to be judged again."""
    judgment = get_object_or_404(Judgment.objects.select_related("report", "item_text"), public_id=public_id)
    if judgment.report is None:
        raise Http404
    return _step(
        request,
        judgment.report.public_id,
        lambda _report, key: undo_judgment(judgment=judgment, user=request.user, key=key),
    )


# --- what the views share -----------------------------------------------------------------------------------------


def _report(public_id: uuid.UUID) -> Report:
    rows: QuerySet[Report] = Report.objects.select_related(
        "item", "item_text", "policy", "claimed_by", "batch__adapter", "previous__policy"
    )
    return get_object_or_404(rows, public_id=public_id)


def _suggestion(public_id: uuid.UUID) -> Suggestion:
    return get_object_or_404(Suggestion.objects.select_related("report__item_text", "query"), public_id=public_id)


def _step(request: RoleRequest, public_id: uuid.UUID, act: Callable[[Report, uuid.UUID], object]) -> HttpResponse:
    """One recording step that changes the page as a whole: the page again, or why it was refused."""
    form = RecordingForm(request.POST)
    if not form.is_valid():
        return _answer(request, public_id, form.sentence(), 422)
    try:
        act(_report(public_id), form.cleaned_data["key"])
    except ServiceError as error:
        return _answer(request, public_id, error.sentence, status_of(error))
    return see_other("audit:report", public_id)


def _answer(request: RoleRequest, public_id: uuid.UUID, sentence: str, status: int) -> HttpResponse:
    """The page as it stands now, with the sentence that says why the step was refused."""
    if not sentence:
        return see_other("audit:report", public_id)
    return _page(request, _report(public_id), notice=sentence, status=status)


def _bar(request: RoleRequest, report: Report) -> dict[str, Any]:
    return {"report": report, "claim": claim_of(report, request.user.pk), "bench": Workbench(report, request.user)}


def _page(
    request: RoleRequest,
    report: Report,
    *,
    notice: str = "",
    status: int = 200,
    first: ReportVerdictForm | None = None,
    editing: str = "",
    own_text: str = "",
) -> HttpResponse:
    bench = Workbench(report, request.user)
    context = _bar(request, report) | {
        "bench": bench,
        "here": "queue",
        "notice": notice,
        "first": first,
        "editing": editing,
        "own_text": own_text,
        "policies": Policy.objects.all() if bench.is_to_judge else [],
        "last_step": _last_step(bench),
    }
    return render(request, "audit/report.html", context, status=status)


def _last_step(bench: Workbench) -> dict[str, Any] | None:
    """The newest decision that the toast offers to take back."""
    decision = bench.last_undoable
    if decision is None:
        return None
    words = {
        DecisionKind.ACCEPTED: _("Accepted"),
        DecisionKind.EDITED: _("Edited, accepted"),
        DecisionKind.REJECTED: _("Rejected"),
        DecisionKind.OWN: _("Added"),
    }
    target = f"#suggestion-{decision.suggestion.public_id}" if decision.suggestion else "#queries"
    return {
        "sentence": words[DecisionKind(decision.kind)],
        "text": decision.text,
        "language": bench.report.item_text.language,
        "undo_url": reverse("audit:undo-decision", args=[decision.public_id]),
        "target": target,
    }


def _queries(
    request: RoleRequest, public_id: uuid.UUID, *, live: str, sentence: str = "", status: int = 200, typed: str = ""
) -> HttpResponse:
    """All queries anew, with what follows from them out of band."""
    report = _report(public_id)
    bench = Workbench(report, request.user)
    context = _bar(request, report) | {
        "bench": bench,
        "live": live,
        "own_sentence": sentence,
        "own_text": typed,
        "editing": "",
        "last_step": _last_step(bench),
    }
    templates = ["audit/_queries.html", *OUT_OF_BAND, "audit/_selection_empty.html"]
    return fragments(request, templates, context, status)


def _row(
    request: RoleRequest,
    *,
    suggestion: Suggestion,
    done: bool = False,
    focus: bool = False,
    editing: bool = False,
    sentence: str = "",
    status: int = 200,
    typed: str = "",
) -> HttpResponse:
    """One suggestion's row; after a change the marked text, the tray, the toast and the spoken line follow."""
    report = _report(suggestion.report.public_id)
    bench = Workbench(report, request.user)
    row = bench.row_of(suggestion=suggestion) or QueryRow(report, suggestion, None)
    context = _bar(request, report) | {
        "bench": bench,
        "row": row,
        "is_editing": editing,
        "is_done": done,
        "wants_focus": focus or bool(sentence),
        "sentence": sentence,
        "typed": typed or row.text,
        "live": sentence or _spoken(row, bench),
        "last_step": _last_step(bench),
    }
    templates = ["audit/_query.html"]
    if not editing:
        templates += [*OUT_OF_BAND, "audit/_queries_note.html"]
    return fragments(request, templates, context, status)


def _spoken(row: QueryRow, bench: Workbench) -> str:
    state = {
        "pending": _("“%(text)s” is pending again. %(left)d to decide."),
        "accepted": _("“%(text)s” accepted. %(left)d to decide."),
        "edited": _("“%(text)s” accepted as edited. %(left)d to decide."),
        "rejected": _("“%(text)s” rejected. %(left)d to decide."),
        "own": _("“%(text)s” added. %(left)d to decide."),
    }[row.state]
    return state % {"text": row.text, "left": len(bench.pending)}


def _decision_refused(
    request: RoleRequest, suggestion: Suggestion, sentence: str, status: int, form: DecisionForm
) -> HttpResponse:
    editing = request.POST.get("decision") == DecisionKind.EDITED and status == 422
    if not wants_fragment(request):
        editing_id = str(suggestion.public_id) if editing else ""
        return _page(request, _report(suggestion.report.public_id), notice=sentence, status=status, editing=editing_id)
    typed = form.cleaned_data.get("text", "")
    return _row(request, suggestion=suggestion, editing=editing, sentence=sentence, status=status, typed=typed)


def _own_query_refused(
    request: RoleRequest, report: Report, sentence: str, status: int, typed: str = ""
) -> HttpResponse:
    if wants_fragment(request):
        return _queries(request, report.public_id, live=sentence, sentence=sentence, status=status, typed=typed)
    return _page(request, report, notice=sentence, status=status, own_text=typed)


def _trial(report: Report, text: str, form: TrialForm) -> dict[str, Any]:
    context: dict[str, Any] = {"report": report, "text": text}
    if not text:
        return context
    mode = MatchMode(form.cleaned_data.get("mode") or MatchMode.PHRASE)
    try:
        return context | {"figures": forecast(text=text, mode=mode, report=report), "is_known": _is_query(report, text)}
    except ServiceError as error:
        return context | {"sentence": error.sentence}


def _is_query(report: Report, text: str) -> bool:
    return bool(report.decisions.standing().filter(text=text).exclude(query=None).exists())


def _close_form(
    request: RoleRequest, report: Report, outcome: str, *, sentence: str = "", status: int = 200
) -> HttpResponse:
    chosen = Outcome.ESCALATED if outcome == Outcome.ESCALATED else Outcome.SKIPPED
    context = {
        "report": report,
        "outcome": chosen.value,
        "reasons": REASONS[chosen],
        "sentence": sentence,
        "typed": request.POST.get("text", ""),
    }
    template = "audit/_close_form.html" if wants_fragment(request) else "audit/close.html"
    return render(request, template, context, status=status)
