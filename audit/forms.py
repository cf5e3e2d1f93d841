"""What the pages accept."""

import time
from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext

from audit.models import Outcome, Policy, Verdict
from audit.models.site import TextSize, Theme
from audit.models.work import Mode
from extraction.text import MatchMode, clean_text

LONGEST_MS = 60 * 60 * 1000  # whoever was away longer did not spend that time deciding

STATUS_CHOICES = [
    ("waiting", _("Waiting")),
    ("mine", _("Claimed by you")),
    ("skipped", _("Skipped")),
    ("escalated", _("Escalated")),
    ("closed", _("Closed")),
]
ANY = [("", _("Any"))]
LANGUAGE_CHOICES = [
    *ANY,
    ("zh-Hans", _("Chinese, simplified")),
    ("zh-Hant", _("Chinese, traditional")),
    ("en", _("English")),
    ("und", _("Other")),
]
COMPLAINT_CHOICES = [*ANY, ("5", _("5 or more")), ("10", _("10 or more"))]
CLAIM_CHOICES = [*ANY, ("free", _("Free")), ("taken", _("Another's"))]
ORDER_CHOICES = [("due", _("Due first")), ("complaints", _("Most complaints")), ("newest", _("Newest"))]


class RecordingForm(forms.Form):
    """Every form that records something: the key that makes it count once, and how long the person looked."""

    key = forms.UUIDField(error_messages={"required": _("This form is incomplete. Load the page again.")})
    shown_at = forms.IntegerField(required=False, min_value=0)
    duration_ms = forms.IntegerField(required=False, min_value=0)

    def spent_ms(self) -> int | None:
        """Milliseconds between showing and sending: as the script measured, else from the time of the render."""
        measured: int | None = self.cleaned_data["duration_ms"]
        shown_at: int | None = self.cleaned_data["shown_at"]
        if measured is None and shown_at is not None:
            measured = max(0, int(time.time() * 1000) - shown_at)
        return None if measured is None else min(measured, LONGEST_MS)

    def sentence(self) -> str:
        """The first thing that is wrong, for the notice."""
        return next(str(errors[0]) for errors in self.errors.values())


class CleanTextField(forms.CharField):
    """Text without what no database row may hold (NUL, lone surrogates)."""

    def to_python(self, value: Any) -> str:
        return clean_text(super().to_python(value) or "")


class QueueFilterForm(forms.Form):
    """The filters of the queue, as they stand in its address."""

    status = forms.ChoiceField(choices=STATUS_CHOICES, required=False, widget=forms.HiddenInput)
    text = CleanTextField(label=_("Id or author"), required=False, max_length=200, strip=True)
    policy = forms.ModelChoiceField(Policy.objects.all(), to_field_name="key", required=False, empty_label=_("Any"))
    language = forms.ChoiceField(choices=LANGUAGE_CHOICES, required=False)
    complaints = forms.ChoiceField(choices=COMPLAINT_CHOICES, required=False)
    claim = forms.ChoiceField(choices=CLAIM_CHOICES, required=False)
    order = forms.ChoiceField(choices=ORDER_CHOICES, required=False)


class ReportVerdictForm(RecordingForm):
    """The verdict on the reported text itself."""

    verdict = forms.ChoiceField(choices=Verdict, error_messages={"required": _("Choose toxic, normal or can't tell.")})
    policy = forms.ModelChoiceField(Policy.objects.all(), to_field_name="key")
    reason = CleanTextField(required=False, max_length=2000)


class DecisionForm(RecordingForm):
    """Accept, edit or reject a suggestion; `text` is the edited phrase."""

    decision = forms.ChoiceField(choices=[("accepted", ""), ("edited", ""), ("rejected", "")])
    text = CleanTextField(required=False)


class OwnQueryForm(RecordingForm):
    """A query of one's own: typed, or marked in the reported text (start and end in code points)."""

    text = CleanTextField(required=False, strip=False)
    mode = forms.ChoiceField(choices=Mode, required=False)
    start = forms.IntegerField(required=False, min_value=0)
    end = forms.IntegerField(required=False, min_value=0)

    def match_mode(self) -> MatchMode:
        return MatchMode(self.cleaned_data["mode"] or MatchMode.PHRASE)

    def span(self) -> tuple[int, int] | None:
        start, end = self.cleaned_data["start"], self.cleaned_data["end"]
        return None if start is None or end is None or start >= end else (start, end)


class TrialForm(forms.Form):
    """A phrase to try on the index: typed, or marked in the reported text."""

    text = CleanTextField(required=False, strip=False)
    mode = forms.ChoiceField(choices=Mode, required=False)
    start = forms.IntegerField(required=False, min_value=0)
    end = forms.IntegerField(required=False, min_value=0)


class CloseForm(RecordingForm):
    """Skip or escalate, with a reason: one of the listed, or the person's own words, or both."""

    outcome = forms.ChoiceField(choices=[(Outcome.SKIPPED.value, ""), (Outcome.ESCALATED.value, "")])
    why = CleanTextField(required=False, max_length=200)
    text = CleanTextField(required=False, max_length=2000)

    def reason(self) -> str:
        parts = (self.cleaned_data["why"], self.cleaned_data["text"])
        return pgettext("separator", ". ").join(part for part in parts if part)


class VerdictForm(RecordingForm):
    """A verdict on one result."""

    verdict = forms.ChoiceField(choices=Verdict, error_messages={"required": _("Choose toxic, normal or can't tell.")})
    reason = CleanTextField(required=False, max_length=2000)


class ReinstateForm(RecordingForm):
    reason = CleanTextField(required=False, max_length=2000)


class HistoryFilterForm(forms.Form):
    """The filters of one's own history."""

    what = forms.ChoiceField(
        required=False,
        choices=[
            ("", _("Everything")),
            ("judgments", _("Judgments")),
            ("decisions", _("Decisions on queries")),
            ("explorations", _("Explorations")),
            ("reports", _("Reports closed")),
        ],
    )


class PreferencesForm(forms.Form):
    """How one person wants the pages."""

    theme = forms.ChoiceField(choices=Theme)
    text_size = forms.ChoiceField(choices=TextSize)
    letter_keys = forms.BooleanField(required=False)
