"""The weekly figures, how each is computed, and the rows behind them."""

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from django import forms
from django.http import HttpResponse, StreamingHttpResponse
from django.shortcuts import render
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_GET

from audit.forms import LANGUAGE_CHOICES
from audit.insights.page import Filters, InsightsPage, stored_rows
from audit.insights.weeks import Week
from audit.logs.writers import neutral_cell, stamp
from audit.models import Arm, Policy, WeeklyCount
from audit.views.http import RoleRequest, role_required

ALL_WEEKS = "all"
WEEKS = [("12", _("Last 12")), ("20", _("Last 20")), ("52", _("Last 52")), (ALL_WEEKS, _("All"))]
ALL = [("", _("All"))]
ROWS = 2_000


class InsightsForm(forms.Form):
    """The filters, as they stand in the address."""

    weeks = forms.ChoiceField(label=_("Weeks"), choices=WEEKS, required=False)
    policy = forms.ModelChoiceField(
        Policy.objects.all(), label=_("Category"), to_field_name="key", required=False, empty_label=_("All")
    )
    language = forms.ChoiceField(label=_("Language"), choices=[*ALL, *LANGUAGE_CHOICES[1:]], required=False)
    arm = forms.ChoiceField(label=_("Arm"), choices=[*ALL, *Arm.choices], required=False)

    def filters(self) -> Filters:
        """What was asked for; the default in place of what cannot be used."""
        data = self.cleaned_data
        weeks, policy = data.get("weeks") or WEEKS[0][0], data.get("policy")
        return Filters(
            weeks=None if weeks == ALL_WEEKS else int(weeks),
            policy=policy.key if policy else "",
            language=data.get("language") or "",
            arm=data.get("arm") or "",
        )


@role_required("read_insights")
@require_GET
def show_insights(request: RoleRequest) -> HttpResponse:
    """The page under the filters of its address; one that cannot be used is named, and left out."""
    form = InsightsForm(request.GET)
    is_valid = form.is_valid()
    context = {
        "here": "insights",
        "form": form,
        "page": InsightsPage(form.filters()),
        "query": request.GET.urlencode(),
    }
    return render(request, "audit/insights.html", context, status=200 if is_valid else 422)


@role_required("read_insights")
@require_GET
def show_definitions(request: RoleRequest) -> HttpResponse:
    """How each figure is computed."""
    return render(request, "audit/insights_definitions.html", {"here": "insights"})


@role_required("read_insights")
@require_GET
def download_rows(request: RoleRequest, *, kind: str) -> HttpResponse:
    """The stored rows that the page under these filters is made of, sent as they are read."""
    form = InsightsForm(request.GET)
    if not form.is_valid():
        return render(request, "400.html", status=422)
    rows = stored_rows(form.filters()).iterator(ROWS)
    write, content_type = _WRITERS[kind]
    response = StreamingHttpResponse(write(map(_described, rows)), content_type=content_type)
    response["Content-Disposition"] = f'attachment; filename="qexplorer-insights.{kind}"'
    return response  # type: ignore[return-value]  # a response like any other, only sent piece by piece


def _described(row: "WeeklyCount") -> dict[str, Any]:
    week = Week(row.monday)  # type: ignore[attr-defined]  # annotated
    until = row.until  # type: ignore[attr-defined]  # annotated
    return {
        "week": week.name,
        "monday": week.monday.isoformat(),
        "is_finished": until >= week.end,
        "counted_until": stamp(until),
        "definition": row.definition,  # type: ignore[attr-defined]  # annotated
        "measure": row.measure,
        "arm": row.arm,
        "policy": row.policy,
        "language": row.language,
        "suggester": row.suggester,
        "version": row.version,
        "value": int(row.value) if row.value.is_integer() else row.value,
    }


_COLUMNS = (
    *("week", "monday", "is_finished", "counted_until", "definition", "measure", "arm", "policy", "language"),
    *("suggester", "version", "value"),
)


def _csv(rows: Iterable[dict[str, Any]]) -> Iterator[str]:
    line = io.StringIO()
    writer = csv.writer(line, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for row in rows:
        writer.writerow([_cell(row[column]) for column in _COLUMNS])
        yield _taken(line)
    yield _taken(line)


def _cell(value: object) -> object:
    if isinstance(value, bool):
        return "true" if value else "false"
    return neutral_cell(value) if isinstance(value, str) else value


def _taken(line: io.StringIO) -> str:
    written = line.getvalue()
    line.seek(0)
    line.truncate()
    return written


def _jsonl(rows: Iterable[dict[str, Any]]) -> Iterator[str]:
    for row in rows:
        yield json.dumps(row, ensure_ascii=False) + "\n"


_WRITERS: dict[str, tuple[Callable[[Iterable[dict[str, Any]]], Iterator[str]], str]] = {
    "csv": (_csv, "text/csv; charset=utf-8"),
    "jsonl": (_jsonl, "application/jsonl"),
}
