"""What the pages of learning accept."""

from datetime import datetime, time

from django import forms
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from audit.forms import CleanTextField, RecordingForm
from extraction.models import Adapter, BaseModel
from training.base_model import PROFILES
from training.config import recipes
from training.models import DatasetKind, Evaluation, EvaluationSet

MOST_SEED = 2**31 - 1
DECISIONS = ("promote", "refuse", "challenger", "shadow", "leave")


class LaunchForm(forms.Form):
    """A recipe on a base. Its fields stand in the address while the person looks at what it would cost."""

    recipe = forms.ChoiceField(label=_("Recipe"), choices=lambda: [(recipe.name, recipe.title) for recipe in recipes()])
    base = forms.ModelChoiceField(
        BaseModel.objects.all(), label=_("Base model"), to_field_name="name", empty_label=None
    )
    evaluation_set = forms.ModelChoiceField(
        EvaluationSet.objects.all(),
        label=_("Evaluate on"),
        to_field_name="name",
        required=False,
        empty_label=_("nothing"),
    )
    seed = forms.IntegerField(label=_("Seed"), min_value=0, max_value=MOST_SEED, initial=0)
    gate_decides = forms.BooleanField(label=_("The gate may promote by itself"), required=False)

    @property
    def fields_shown(self) -> list[forms.BoundField]:
        return [self[name] for name in ("recipe", "base", "evaluation_set", "seed", "gate_decides")]

    @property
    def has_bases(self) -> bool:
        return BaseModel.objects.exists()

    def sentence(self) -> str:
        return next(str(errors[0]) for errors in self.errors.values())


class LaunchedForm(RecordingForm, LaunchForm):
    """The same, with the key that makes it one launch, and the yes to a repetition."""

    is_sure = forms.BooleanField(required=False)


class BuildForm(RecordingForm):
    """A dataset from today's log."""

    kind = forms.ChoiceField(label=_("Dataset"), choices=DatasetKind)
    adapter = forms.ModelChoiceField(
        Adapter.objects.all(), label=_("Proposed by"), to_field_name="name", required=False, empty_label=_("nobody")
    )


class DecisionForm(RecordingForm):
    """What becomes of an adapter, and why; promoting names the evaluation that the person looked at."""

    decision = forms.ChoiceField(choices=[(word, "") for word in DECISIONS])
    reason = CleanTextField(
        max_length=2000, error_messages={"required": _("Give a reason, so that the next person knows.")}
    )
    evaluation = forms.ModelChoiceField(Evaluation.objects.all(), required=False)
    share = forms.FloatField(min_value=0.01, max_value=1, required=False)


class TakeForm(RecordingForm):
    """Why somebody takes texts as people wrote them."""

    reason = CleanTextField(
        max_length=1000, error_messages={"required": _("Say why the masks are taken off. The reason is kept.")}
    )


class RollbackForm(RecordingForm):
    seen = forms.ModelChoiceField(Adapter.objects.all(), to_field_name="name", required=False)
    reason = CleanTextField(required=False, max_length=2000)


class EvaluateForm(RecordingForm):
    evaluation_set = forms.ModelChoiceField(EvaluationSet.objects.all(), to_field_name="name")


class FreezeForm(RecordingForm):
    """A test set: its name and the day (in the site's zone) from which on reports are kept for it."""

    name = forms.SlugField(label=_("Name"), max_length=40)
    first = forms.DateField(label=_("Reports since"), widget=forms.DateInput({"type": "date"}))

    def clean_name(self) -> str:
        name: str = self.cleaned_data["name"]
        if EvaluationSet.objects.filter(name=name).exists():
            raise forms.ValidationError(_("There is a test set of this name."))
        return name

    def cutoff(self) -> datetime:
        return timezone.make_aware(
            datetime.combine(self.cleaned_data["first"], time.min), timezone.get_default_timezone()
        )


class BaseForm(RecordingForm):
    profile = forms.ChoiceField(label=_("Size"), choices=[(name, name) for name in PROFILES])


class CompareForm(forms.Form):
    """Two adapters, side by side."""

    a = forms.ModelChoiceField(Adapter.objects.all(), to_field_name="name", label=_("Left"), empty_label=None)
    b = forms.ModelChoiceField(Adapter.objects.all(), to_field_name="name", label=_("Right"), empty_label=None)
