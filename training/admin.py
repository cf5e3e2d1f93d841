"""Learning in the Django admin: its settings, which people change, and its history, read-only.

What people do (launch, stop, promote …) is on the page "Training", training.views.
"""

from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib import admin
from django.core.exceptions import ValidationError
from django.db import models as db
from django.http import HttpRequest
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from audit.admin_base import ModelAdmin, ReadOnlyAdmin
from extraction.models import Adapter, AdapterPromotion, BaseModel
from training.config import recipes
from training.models import Dataset, Evaluation, EvaluationSet, LearningSettings, Refusal, Run

if TYPE_CHECKING:  # Django's own class takes no type parameters when it runs
    ModelForm = forms.ModelForm[LearningSettings]
else:
    ModelForm = forms.ModelForm


class LearningSettingsForm(ModelForm):
    recipe = forms.ChoiceField(
        required=False,
        choices=lambda: [("", _("none")), *((recipe.name, recipe.title) for recipe in recipes())],
        help_text=LearningSettings._meta.get_field("recipe").help_text,
    )

    class Meta:
        model = LearningSettings
        fields = (
            "recipe",
            "every",
            "after_judgments",
            "gate_decides",
            "hit_rate_margin",
            "precision_margin",
            "judged_at_least",
            "keep_checkpoints",
        )

    def clean(self) -> dict[str, Any]:
        values: dict[str, Any] = super().clean() or {}
        if values.get("recipe") and values.get("every") is None and not values.get("after_judgments"):
            raise ValidationError(_("Choose a weekday or a number of judgments; else the recipe never runs."))
        return values


@admin.register(LearningSettings)
class LearningSettingsAdmin(ModelAdmin):
    list_display = ("__str__", "recipe", "every", "after_judgments", "gate_decides", "keep_checkpoints")
    form = LearningSettingsForm

    def has_view_permission(self, request: HttpRequest, obj: db.Model | None = None) -> bool:
        return request.user.has_perm("audit.manage_learning")

    def has_change_permission(self, request: HttpRequest, obj: db.Model | None = None) -> bool:
        return request.user.has_perm("audit.manage_learning")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: db.Model | None = None) -> bool:
        return False

    def get_queryset(self, request: HttpRequest) -> db.QuerySet[LearningSettings]:
        LearningSettings.load()
        rows: db.QuerySet[LearningSettings] = super().get_queryset(request)
        return rows

    def save_model(self, request: HttpRequest, obj: LearningSettings, form: Any, change: bool) -> None:
        """A new weekday begins with the next such day: the one that is past was not missed."""
        if "every" in form.changed_data or "recipe" in form.changed_data:
            obj.scheduled_on = timezone.localdate()
        super().save_model(request, obj, form, change)


@admin.register(Run)
class RunAdmin(ReadOnlyAdmin):
    list_display = ("id", "kind", "recipe", "base", "dataset", "state", "step", "max_steps", "adapter", "at", "user")
    list_filter = ("state", "kind", "recipe")


@admin.register(Dataset)
class DatasetAdmin(ReadOnlyAdmin):
    list_display = ("name", "kind", "state", "rows_in", "rows_out", "until", "excluded", "at", "user")
    list_filter = ("kind", "state")


@admin.register(Evaluation)
class EvaluationAdmin(ReadOnlyAdmin):
    list_display = ("id", "adapter", "baseline", "evaluation_set", "state", "verdict", "to_judge", "at")
    list_filter = ("state", "verdict")


@admin.register(Adapter)
class AdapterAdmin(ReadOnlyAdmin):
    list_display = ("name", "kind", "base", "parent", "created", "user")
    list_filter = ("kind", "base")


@admin.register(BaseModel)
class BaseModelAdmin(ReadOnlyAdmin):
    list_display = ("name", "profile", "reference", "revision", "parameters", "prompt_version", "data_until", "created")


@admin.register(AdapterPromotion)
class AdapterPromotionAdmin(ReadOnlyAdmin):
    list_display = ("adapter", "role", "share", "is_rollback", "reason", "user", "at")
    list_filter = ("role", "is_rollback")


@admin.register(EvaluationSet, Refusal)
class HistoryAdmin(ReadOnlyAdmin):
    """Rows of the log."""
