"""Words and small parts of the auditors' pages: times, figures, marked text, the hidden fields of a recording form."""

import time
import uuid
from datetime import datetime, timedelta

from django import template
from django.conf import settings
from django.contrib.humanize.templatetags.humanize import intcomma
from django.forms.utils import flatatt
from django.template.defaultfilters import date as format_date
from django.utils import timezone
from django.utils.html import escape, format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import gettext as _
from django.utils.translation import ngettext, pgettext

from audit.figures import share_of
from audit.forecasts import FIRST, ForecastFigures
from audit.marks import Mark, Segment, segments
from audit.models.work import Forecast, QueryRun
from audit.presentation.pool import PoolRow, waiting
from audit.presentation.results import ResultRow

register = template.Library()


@register.simple_tag
def recording() -> SafeString:
    """The hidden fields of a form that records something: its key, made anew with every render, and the time shown."""
    return format_html(
        '<input type="hidden" name="key" value="{}"><input type="hidden" name="shown_at" value="{}">',
        uuid.uuid4(),
        int(time.time() * 1000),
    )


@register.filter
def html_lang(language: str) -> str:
    """The lang attribute of an item text; empty where the language is not known."""
    return "" if language in {"", "und"} else language


@register.filter
def short_time(moment: datetime | None) -> SafeString | str:
    """Today `14:03`, else `12 Mar 2026, 14:03`, in the site's zone."""
    if moment is None:
        return ""
    local = timezone.localtime(moment)
    words = format_date(local, "H:i" if local.date() == timezone.localdate() else pgettext("date format", "j M Y, H:i"))
    return format_html('<time datetime="{}">{}</time>', local.isoformat(timespec="seconds"), words)


@register.filter
def full_time(moment: datetime | None) -> SafeString | str:
    """`12 Mar 2026, 14:03`, whatever the day."""
    if moment is None:
        return ""
    local = timezone.localtime(moment)
    return format_html(
        '<time datetime="{}">{}</time>',
        local.isoformat(timespec="seconds"),
        format_date(local, pgettext("date format", "j M Y, H:i")),
    )


@register.filter
def duration(span: timedelta) -> str:
    """`35 min`, `1 h 10 min`, `26 h`, `4 days`: the two largest units that still say something.

    >>> duration(timedelta(minutes=70))
    '1 h 10 min'
    """
    minutes = max(0, int(span.total_seconds())) // 60
    hours, minutes = divmod(minutes, 60)
    if hours >= 72:
        return ngettext("%(count)d day", "%(count)d days", hours // 24) % {"count": hours // 24}
    if hours >= 3 or (hours and not minutes):
        return _("%(hours)d h") % {"hours": hours}
    if hours:
        return _("%(hours)d h %(minutes)d min") % {"hours": hours, "minutes": minutes}
    if minutes:
        return _("%(minutes)d min") % {"minutes": minutes}
    return _("%(seconds)d s") % {"seconds": max(0, int(span.total_seconds()))}


@register.filter
def ago(moment: datetime) -> str:
    return duration(timezone.now() - moment)


@register.filter
def left(moment: datetime) -> str:
    return duration(moment - timezone.now())


@register.filter
def due_words(due: datetime) -> SafeString:
    """`overdue by 12 min`, `due in 35 min`: coloured only where time runs out."""
    remaining = due - timezone.now()
    if remaining < timedelta(0):
        return format_html(
            '<span class="due due--over">{}</span>', _("overdue by %(span)s") % {"span": duration(-remaining)}
        )
    style = "due" if remaining < timedelta(hours=2) else "due due--later"
    return format_html('<span class="{}">{}</span>', style, _("due in %(span)s") % {"span": duration(remaining)})


@register.filter
def safe_url(url: str) -> bool:
    """Whether an address from outside may be linked: only web addresses, no scripts."""
    return url.startswith(("https://", "http://"))


@register.filter
def ends_soon(lease_until: datetime) -> bool:
    return lease_until - timezone.now() < timedelta(minutes=2)


@register.filter
def same(one: object, other: object) -> bool:
    """Whether two ids are equal as words; nothing equals nothing not."""
    return bool(one) and str(one) == str(other)


@register.filter
def count_figure(found: Forecast | ForecastFigures | QueryRun) -> str:
    """Matches: `1,240`; `10,000+` where our engine stopped counting; `~1,240` where an attached index is estimated."""
    matches = found.live if isinstance(found, QueryRun) else found.matches or 0
    figure = intcomma(matches)
    if not found.is_about:
        return figure
    return f"~{figure}" if settings.SEARCH_ATTACH else f"{figure}+"


@register.filter
def count_words(found: Forecast | ForecastFigures | QueryRun) -> str:
    """`1 result`, `1,240 results`, `10,000+ results`, `about 1,240 results`."""
    matches = found.live if isinstance(found, QueryRun) else found.matches or 0
    if found.is_about and settings.SEARCH_ATTACH:
        return ngettext("about %(count)s result", "about %(count)s results", matches) % {"count": intcomma(matches)}
    return ngettext("%(count)s result", "%(count)s results", matches) % {"count": count_figure(found)}


@register.filter
def unseen_words(figures: Forecast) -> str:
    """Unseen matches: exact up to 100 matches; of more, only the first 100 were looked at, so `71 of 100`."""
    if figures.matches is None or figures.unseen is None:
        return "–"
    if figures.matches <= FIRST:
        return str(figures.unseen)
    return _("%(unseen)d of %(looked)d") % {"unseen": figures.unseen, "looked": FIRST}


@register.simple_tag
def past_words(figures: Forecast) -> str:
    """What was judged of the matches before: `62% toxic, 31 of 50 judged`; never a share without its count."""
    share = share_of(figures.past_toxic, figures.past_judged)
    if share is None:
        return _("none judged yet")
    figures_of = {"toxic": share.toxic, "judged": share.judged, "percent": share.percent}
    if not share.is_enough:
        return _("%(toxic)d toxic of %(judged)d judged, too few") % figures_of
    return _("%(percent)d%% toxic, %(toxic)d of %(judged)d judged") % figures_of


@register.simple_tag
def decided_words(state: str) -> str:
    words = {"accepted": _("Accepted"), "edited": _("Edited"), "rejected": _("Rejected"), "own": _("Added")}
    return words.get(state, "")


@register.simple_tag
def result_facts(row: ResultRow) -> SafeString:
    """By which queries a result was found, its author and age: in code, since a page has fifty of them."""
    numbers = pgettext("between things of a list", ", ").join(str(place.query.position) for place in row.places)
    facts = [ngettext("query %(numbers)s", "queries %(numbers)s", len(row.places)) % {"numbers": numbers}]
    item = row.exposure.item
    if item.author_key:
        facts.append(_("author %(author)s") % {"author": item.author_key})
    facts.append(_("%(age)s ago") % {"age": ago(item.created)})
    return format_html_join("", "<span>{}</span>", ((fact,) for fact in facts))


@register.simple_tag
def verdict_words(row: ResultRow | PoolRow) -> SafeString:
    """What a verdict says that was not given here by this person: when, and by whom where somebody was faster."""
    standing = row.standing
    if standing is None:
        return SafeString("")
    if row.was_judged_before:
        return format_html(_("judged {verdict}, {at}"), verdict=standing.label, at=short_time(standing.at))
    words = _("{name} judged it {verdict}, {at}")
    return format_html(words, name=standing.by, verdict=standing.label, at=short_time(standing.at))


@register.simple_tag
def texts_wait() -> bool:
    """Whether an evaluation waits for texts to be judged. One query, also on pages that show nothing of it."""
    return waiting().exists()


@register.simple_tag
def marked(text: str, marks: list[Mark] | None = None) -> SafeString:
    """An item text with its phrases marked, its code points otherwise untouched: offsets in the page are offsets in
    the row. (A parser would turn a carriage return into a line feed, so it is written as a reference.)
    """
    return mark_safe("".join(_segment(part) for part in segments(text, marks or [])))  # noqa: S308  (escaped below)


def _segment(part: Segment) -> str:
    words = escape(part.text).replace("\r", "&#13;")
    if part.mark is None:
        return words
    if not part.mark.attributes:
        return f"<mark>{words}</mark>"
    return f'<span class="phrase"{flatatt(dict(part.mark.attributes))}>{words}</span>'
