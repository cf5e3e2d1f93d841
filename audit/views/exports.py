"""The exports: ask for a log, watch it being made, download it while its days last."""

import uuid
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Any

from django import forms
from django.conf import settings
from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.http import FileResponse, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, render
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_GET, require_POST

from audit.exports import can_download, request_export, visible_to
from audit.forms import CleanTextField, RecordingForm
from audit.logs import STREAMS, Part, Stream, get_stream
from audit.models import Export, ExportFormat, JobState
from audit.services import AlreadyRecorded, ServiceError
from audit.views.http import RoleRequest, fragments, role_required, see_other, status_of, wants_fragment

PAGE_SIZE = 50
STOP_POLLING = 286
CONTENT_TYPES = {
    ExportFormat.JSONL: "application/jsonl",
    ExportFormat.CSV: "text/csv; charset=utf-8",
    ExportFormat.PARQUET: "application/vnd.apache.parquet",
    ExportFormat.TREC: "text/plain; charset=utf-8",
    ExportFormat.MARKDOWN: "text/markdown; charset=utf-8",
}


PARTS = {
    Part.LOGS: gettext_lazy("Logs"),
    Part.TREC: gettext_lazy("For TREC tools"),
    Part.LEARNING: gettext_lazy("Learning"),
}


def stream_choices() -> list[tuple[Any, list[tuple[str, str]]]]:
    """What can be exported, in groups; one that holds texts says so."""
    return [
        (label, [(stream.name, _stream_words(stream)) for stream in STREAMS.values() if stream.part == part])
        for part, label in PARTS.items()
    ]


def _stream_words(stream: Stream) -> str:
    return _("%(stream)s (with texts)") % {"stream": stream.name} if stream.has_texts else stream.name


@dataclass(frozen=True)
class ExportRow:
    """An export in the list, with what the row says about it."""

    export: Export

    @property
    def is_pending(self) -> bool:
        return self.export.state in (JobState.QUEUED, JobState.RUNNING)

    @property
    def is_ready(self) -> bool:
        return can_download(self.export)

    @property
    def last_day(self) -> datetime | None:
        """The last day that is in the file; the window itself ends at the midnight after it."""
        return self.export.until and self.export.until - timedelta(microseconds=1)


class ExportForm(RecordingForm):
    """Which log, as what file, of which days (both included, in the site's zone), and whether with masks."""

    stream = forms.ChoiceField(label=gettext_lazy("Log"), choices=stream_choices, initial="flat")
    format = forms.ChoiceField(label=gettext_lazy("File"), choices=ExportFormat, initial=ExportFormat.CSV)
    first = forms.DateField(label=gettext_lazy("From"), required=False, widget=forms.DateInput({"type": "date"}))
    last = forms.DateField(label=gettext_lazy("To, included"), required=False, widget=forms.DateInput({"type": "date"}))
    is_unmasked = forms.BooleanField(label=gettext_lazy("Without masks"), required=False)
    reason = CleanTextField(
        label=gettext_lazy("Why without masks"),
        required=False,
        max_length=1000,
        widget=forms.TextInput,
    )

    def file_format(self) -> ExportFormat:
        """The form that was chosen; a log that has one form only comes in that one."""
        formats = get_stream(self.cleaned_data["stream"]).formats
        return formats[0] if len(formats) == 1 else ExportFormat(self.cleaned_data["format"])

    def since(self) -> datetime | None:
        return midnight(self.cleaned_data["first"])

    def until(self) -> datetime | None:
        last: date | None = self.cleaned_data["last"]
        return midnight(last + timedelta(days=1)) if last else None


def midnight(day: date | None) -> datetime | None:
    """When a day begins in the site's zone."""
    if day is None:
        return None
    return timezone.make_aware(datetime.combine(day, time.min), timezone.get_default_timezone())


@role_required("export_logs")
@require_GET
def exports(request: RoleRequest) -> HttpResponse:
    """The form, and what was asked for before."""
    return _page(request, ExportForm())


@role_required("export_logs")
@require_POST
def export_create(request: RoleRequest) -> HttpResponse:
    """Record the request; its row appears in the list and tells when the file is there."""
    form = ExportForm(request.POST)
    if not form.is_valid():
        return _page(request, form, form.sentence(), 422)
    try:
        export = request_export(
            user=request.user,
            stream=form.cleaned_data["stream"],
            format=form.file_format(),
            key=form.cleaned_data["key"],
            since=form.since(),
            until=form.until(),
            is_unmasked=form.cleaned_data["is_unmasked"],
            reason=form.cleaned_data["reason"],
        )
    except AlreadyRecorded:
        return see_other("audit:exports")
    except ServiceError as error:
        return _page(request, form, error.sentence, status_of(error))
    return see_other("audit:exports", anchor=f"export-{export.pk}")


@role_required("export_logs")
@require_GET
def export_state(request: RoleRequest, public_id: uuid.UUID) -> HttpResponse:
    """One row of the list. htmx asks again and again while the file is being made; 286 ends that."""
    export = _export(request, public_id)
    if not wants_fragment(request):
        return see_other("audit:exports", anchor=f"export-{export.pk}")
    row = ExportRow(export)
    context: dict[str, Any] = {"row": row, "sees_all": _sees_all(request)}
    if row.is_pending:
        return render(request, "audit/_export.html", context)
    context["live"] = _("Export %(name)s: %(state)s.") % {"name": export, "state": export.get_state_display()}
    return fragments(request, ["audit/_export.html", "audit/_live.html"], context, STOP_POLLING)


@role_required("export_logs")
@require_GET
def export_file(request: RoleRequest, public_id: uuid.UUID) -> HttpResponse:
    """The file, to those who may see the export; one without masks only to those who may still take them off."""
    export = _export(request, public_id)
    if export.is_unmasked and not request.user.has_perm("audit.export_unmasked"):
        raise PermissionDenied
    if not can_download(export):
        sentence = _("The days of this file are over, or it is not ready. Ask for the export again.")
        return render(request, "409.html", {"sentence": sentence}, status=410)
    content_type = CONTENT_TYPES[ExportFormat(export.format)]
    response = FileResponse(
        export.file.open(), as_attachment=True, filename=_file_name(export), content_type=content_type
    )
    return response  # type: ignore[return-value]  # a response like any other, only sent piece by piece


@role_required("export_logs")
@require_GET
def export_manifest(request: RoleRequest, public_id: uuid.UUID) -> HttpResponse:
    """What the file holds and how to check it; it outlives the file."""
    export = _export(request, public_id)
    if export.state != JobState.DONE:
        return see_other("audit:exports", anchor=f"export-{export.pk}")
    response = JsonResponse(export.manifest, json_dumps_params={"indent": 2, "ensure_ascii": False})
    response["Content-Disposition"] = f'attachment; filename="{_file_name(export)}.manifest.json"'
    return response


def _page(request: RoleRequest, form: ExportForm, sentence: str = "", status: int = 200) -> HttpResponse:
    page = Paginator(visible_to(request.user), PAGE_SIZE).get_page(request.GET.get("page"))
    context = {
        "here": "exports",
        "form": form,
        "page": page,
        "rows": [ExportRow(export) for export in page.object_list],
        "sentence": sentence,
        "sees_all": _sees_all(request),
        "days": settings.EXPORT_DAYS,
    }
    return render(request, "audit/exports.html", context, status=status)


def _export(request: RoleRequest, public_id: uuid.UUID) -> Export:
    """An export that this person may see; anyone else's is not there."""
    return get_object_or_404(visible_to(request.user), public_id=public_id)


def _sees_all(request: RoleRequest) -> bool:
    return request.user.has_perm("audit.view_export")


def _file_name(export: Export) -> str:
    return f"qexplorer-{export.pk}-{export.manifest['file']}"
