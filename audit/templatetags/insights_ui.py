"""Figures of the page Insights as people read them: `60.9%`, `+57.9%`, `58.9 to 62.9`."""

from datetime import date

from django import template
from django.template.defaultfilters import date as format_date
from django.utils.formats import number_format
from django.utils.translation import gettext as _
from django.utils.translation import pgettext

from audit.insights.charts import Chart

register = template.Library()


def _rounded(value: float, places: int = 1) -> str:
    """In the way of the language; `number_format` alone would cut the figure off."""
    return number_format(round(value, places), places, use_l10n=True, force_grouping=True)


@register.filter
def percent(share: float) -> str:
    """`60.9%`."""
    return f"{_rounded(100 * share)}%"


@register.filter
def more(ratio: float) -> str:
    """`+57.9%`: what comes on top."""
    return f"+{percent(ratio)}"


@register.filter
def ends(interval: tuple[float, float] | None) -> str:
    """`58.9 to 62.9`, per cent; a dash where there is no interval."""
    if interval is None:
        return "–"
    low, high = (_rounded(100 * end) for end in interval)
    return _("%(low)s to %(high)s") % {"low": low, "high": high}


@register.filter
def span(interval: tuple[float, float]) -> str:
    """`5.2 to 6.1`, as they are."""
    low, high = (_rounded(end) for end in interval)
    return _("%(low)s to %(high)s") % {"low": low, "high": high}


@register.filter
def day(when: date) -> str:
    """`12 Mar 2026`, in the way of the language."""
    return format_date(when, pgettext("date format", "j M Y"))


@register.filter
def day_of_year(when: date) -> str:
    """`12 Mar`, in the way of the language."""
    return format_date(when, pgettext("date format", "j M"))


@register.filter
def across(share: float) -> str:
    """A place on a scale from 0 to 1, for a drawing, which knows no language."""
    return f"{100 * share:.1f}%"


@register.filter
def scale(value: float, is_more: bool = False) -> str:
    """`40%` or `+40%` beside a grid line."""
    words = f"{_rounded(100 * value, 0 if round(100 * value, 6).is_integer() else 1)}%"
    return f"+{words}" if is_more and value else words


@register.simple_tag
def chart_words(about: str, chart: Chart, *names: str) -> str:
    """What a chart says to who does not see it: between what each of its lines lies."""
    lines = [
        _("%(name)s between %(low)s and %(high)s.")
        % {"name": name, "low": percent(series.lowest), "high": percent(series.highest)}
        for name, series in zip(names, chart.series, strict=True)
        if series.lowest is not None and series.highest is not None
    ]
    return " ".join([about, *lines, _("The table below has every week.")])
