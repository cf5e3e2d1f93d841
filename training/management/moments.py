"""Times on the command line."""

from datetime import datetime

from django.core.management.base import CommandError
from django.utils import timezone
from django.utils.dateparse import parse_datetime


def moment(option: str, text: str) -> datetime:
    """A time of the command line, in the site's zone where it names none; now where there is none."""
    if not text:
        return timezone.now()
    try:
        found = parse_datetime(text)
    except ValueError:
        found = None
    if found is None:
        raise CommandError(f"{option}: {text!r} is no time; write it as 2026-11-30T00:00:00.")
    return found if timezone.is_aware(found) else timezone.make_aware(found)
