"""Loading items and reports in the admin: choose a file, look at the preview, start; the result is on the row."""

from pathlib import PurePath
from typing import IO, Any, cast

from django import forms
from django.contrib import admin, messages
from django.contrib.auth.decorators import permission_required
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_http_methods, require_POST

from audit.admin_base import ReadOnlyAdmin
from audit.intake import ImportOptions, UnreadableFile, preview, register_upload, start_upload
from audit.models import ImportFile, ImportKind, JobState

may_load = permission_required("audit.load_data", raise_exception=True)


class UploadForm(forms.Form):
    kind = forms.ChoiceField(choices=ImportKind, label=gettext_lazy("What it holds"))
    file = forms.FileField(label=gettext_lazy("File"), help_text=gettext_lazy("JSONL or CSV, UTF-8."))
    platform = forms.CharField(
        max_length=40,
        required=False,
        help_text=gettext_lazy("For rows that name none."),
        label=gettext_lazy("Platform"),
    )
    zone = forms.CharField(
        max_length=60,
        required=False,
        label=gettext_lazy("Time zone"),
        help_text=gettext_lazy("For times without an offset, such as Asia/Shanghai. Without it they are refused."),
    )
    create_policies = forms.BooleanField(required=False, label=gettext_lazy("Create policies that are not known yet"))

    def options(self) -> ImportOptions:
        """Raises UnreadableFile with the sentence for the person."""
        return ImportOptions.make(
            self.cleaned_data["file"].name,
            platform=self.cleaned_data["platform"],
            zone=self.cleaned_data["zone"],
            create_policies=self.cleaned_data["create_policies"],
        )


@admin.register(ImportFile)
class ImportFileAdmin(ReadOnlyAdmin):
    list_display = ("name", "kind", "state", "line", "created_count", "changed_count", "same_count", "bad_count", "at")
    list_filter = ("kind", "state")
    change_list_template = "admin/audit/importfile/change_list.html"
    change_form_template = "admin/audit/importfile/change_form.html"

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view
        return [
            path("upload/", view(upload_view), name="import-upload"),
            path("<int:pk>/start/", view(start_view), name="import-start"),
            *super().get_urls(),
        ]

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        row = get_object_or_404(ImportFile, pk=object_id)
        shown = _preview(row) if row.state == JobState.DRAFT and row.file else None
        context = {"preview": shown, "is_draft": row.state == JobState.DRAFT, **(extra_context or {})}
        return super().change_view(request, object_id, form_url, context)


@require_http_methods(["GET", "POST"])
@may_load
def upload_view(request: HttpRequest) -> HttpResponse:
    form = UploadForm(request.POST or None, request.FILES or None)
    if request.method == "POST" and form.is_valid():
        try:
            row = register_upload(
                form.cleaned_data["file"],
                ImportKind(form.cleaned_data["kind"]),
                options=form.options(),
                user=cast(User, request.user),
            )
        except UnreadableFile as error:
            form.add_error("file", str(error))
        else:
            return HttpResponseRedirect(reverse("admin:audit_importfile_change", args=[row.pk]))
    context = {
        **admin.site.each_context(request),
        "title": _("Load a file"),
        "form": form,
        "opts": ImportFile._meta,
    }
    status = 422 if form.is_bound else 200
    return TemplateResponse(request, "admin/audit/importfile/upload.html", context, status=status)


@require_POST
@may_load
def start_view(request: HttpRequest, pk: int) -> HttpResponse:
    row = get_object_or_404(ImportFile, pk=pk)
    if start_upload(row):
        messages.success(
            request, _("%(name)s is being loaded. Reload this page to see how far it is.") % {"name": row.name}
        )
    return HttpResponseRedirect(reverse("admin:audit_importfile_change", args=[pk]))


def _preview(row: ImportFile) -> dict[str, Any]:
    """The first rows and refusals of a draft, or the sentence why the file cannot be read."""
    try:
        with row.file.open("rb") as file:
            found = preview(
                cast(IO[bytes], file),
                ImportKind(row.kind),
                name=PurePath(row.name).name,
                options=ImportOptions.load(row.options),
            )
    except UnreadableFile as error:
        return {"unreadable": str(error)}
    return {"rows": found.rows, "problems": found.problems, "ignored": found.ignored, "lines": found.lines}
