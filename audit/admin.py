"""The Django admin: what people change (policies, switches, keys), the models that serve, and history, read-only."""

from typing import Any

from django.contrib import admin, messages
from django.contrib.auth.decorators import permission_required
from django.db import models as db
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.urls import URLPattern, path, reverse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST
from rest_framework_api_key.admin import APIKeyModelAdmin
from rest_framework_api_key.models import APIKey

from audit import admin_imports, models
from audit.admin_base import ModelAdmin, ReadOnlyAdmin, StackedInline
from audit.outbox.webhooks import new_secret
from audit.queueing import enqueue, enqueue_after_commit
from extraction.models import RiskModel, RiskPromotion
from extraction.registry import NothingToRollBack, ServesNoMore, promote_risk, rollback_risk, serving_row

admin.site.site_header = "QExplorer"
admin.site.site_title = "QExplorer"
admin.site.index_title = "Administration"
__all__ = ["admin_imports"]  # Django loads this module; that one registers its pages when it is imported

admin.site.unregister(APIKey)  # replaced by our own, with scopes and a platform

_ITEMS = "admin:audit_item_changelist"
_RISK_MODELS = "admin:extraction_riskmodel_changelist"

may_load = permission_required("audit.load_data", raise_exception=True)
may_manage_learning = permission_required("audit.manage_learning", raise_exception=True)


class PolicyVersionInline(StackedInline):
    """A change of wording is a new version: judgments keep naming the one that they were made under."""

    model = models.PolicyVersion
    extra = 0

    def has_change_permission(self, request: HttpRequest, obj: db.Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: db.Model | None = None) -> bool:
        return False


@admin.register(models.Policy)
class PolicyAdmin(ModelAdmin):
    list_display = ("name", "key")
    prepopulated_fields = {"key": ("name",)}
    inlines = (PolicyVersionInline,)

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        """A new wording makes the stored suggestions of its reports stale."""
        super().save_related(request, form, formsets, change)
        _refresh_suggestions()


@admin.register(models.SiteSettings)
class SiteSettingsAdmin(ModelAdmin):
    list_display = ("__str__", "own_first_share", "due_hours", "risk_margin")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return super().has_add_permission(request) and not models.SiteSettings.objects.exists()

    def has_delete_permission(self, request: HttpRequest, obj: db.Model | None = None) -> bool:
        return False


@admin.register(models.SuggesterSwitch)
class SuggesterSwitchAdmin(ModelAdmin):
    """`search` and `llm` can be off for a policy or for the whole site; the stored suggestions follow."""

    list_display = ("suggester", "policy", "is_on")

    def save_model(self, request: HttpRequest, obj: db.Model, form: Any, change: bool) -> None:
        super().save_model(request, obj, form, change)
        _refresh_suggestions()


@admin.register(models.ApiKey)
class ApiKeyAdmin(APIKeyModelAdmin):
    list_display = (  # type: ignore[assignment]  # the library fixes the number of columns
        "prefix",
        "name",
        "platform",
        "can_write_items",
        "can_write_complaints",
        "can_read_verdicts",
        "created",
        "expiry_date",
        "revoked",
    )


@admin.register(models.WebhookEndpoint)
class WebhookEndpointAdmin(ModelAdmin):
    list_display = ("url", "platform", "is_active", "position", "waiting", "given_up")
    readonly_fields = ("position",)

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        return {"secret": new_secret()}

    def get_queryset(self, request: HttpRequest) -> db.QuerySet[models.WebhookEndpoint]:
        waiting = db.Q(deliveries__delivered=None, deliveries__given_up=None, deliveries__isnull=False)
        rows: db.QuerySet[models.WebhookEndpoint] = super().get_queryset(request)
        return rows.annotate(
            waiting_count=db.Count("deliveries", filter=waiting),
            given_up_count=db.Count("deliveries", filter=db.Q(deliveries__given_up__isnull=False)),
        )

    @admin.display(description="waiting")
    def waiting(self, endpoint: models.WebhookEndpoint) -> int:
        count: int = getattr(endpoint, "waiting_count", 0)
        return count

    @admin.display(description="given up")
    def given_up(self, endpoint: models.WebhookEndpoint) -> int:
        count: int = getattr(endpoint, "given_up_count", 0)
        return count


@admin.register(models.WebhookDelivery)
class WebhookDeliveryAdmin(ReadOnlyAdmin):
    list_display = ("publication", "endpoint", "attempts", "delivered", "given_up", "next_attempt", "last_answer")
    list_filter = (("delivered", admin.EmptyFieldListFilter), ("given_up", admin.EmptyFieldListFilter))


@admin.register(models.Item)
class ItemAdmin(ReadOnlyAdmin):
    list_display = ("platform", "external_id", "state", "created", "risk", "version", "indexed_version")
    list_filter = ("state", "platform")
    search_fields = ("external_id", "author_key")
    change_list_template = "admin/audit/item/change_list.html"

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view
        return [
            path("verify/", view(verify_view), name="index-verify"),
            path("rebuild/", view(rebuild_view), name="index-rebuild"),
            *super().get_urls(),
        ]


@admin.register(models.Report)
class ReportAdmin(ReadOnlyAdmin):
    list_display = ("number", "policy", "status", "outcome", "opened", "due", "claimed_by", "complaint_count")
    list_filter = ("status", "outcome", "policy", "arm", "suggestions_state")


@admin.register(models.Exploration)
class ExplorationAdmin(ReadOnlyAdmin):
    list_display = ("number", "state", "created_by", "at", "finished", "pages_opened")
    list_filter = ("state",)


@admin.register(models.Export)
class ExportAdmin(ReadOnlyAdmin):
    list_display = ("stream", "format", "state", "rows", "is_unmasked", "user", "at", "expires")
    list_filter = ("state", "is_unmasked")


@admin.register(
    models.Complaint,
    models.Decision,
    models.Exposure,
    models.Judgment,
    models.MaintenancePass,
    models.OutboxEvent,
    models.Query,
    models.QueryRun,
    models.Removal,
    models.ReportEvent,
    models.Suggestion,
    models.SuggestionBatch,
    RiskPromotion,
)
class HistoryAdmin(ReadOnlyAdmin):
    """Rows of the log."""


@admin.register(RiskModel)
class RiskModelAdmin(ReadOnlyAdmin):
    """The versions of the risk model with the figures of their check; promoting and rolling back are POSTs."""

    list_display = (
        "version",
        "serves",
        "fitted",
        "positives",
        "negatives",
        "unlabelled",
        "held_out",
        "held_out_loss",
        "baseline_loss",
        "refusal",
    )
    change_list_template = "admin/extraction/riskmodel/change_list.html"
    change_form_template = "admin/extraction/riskmodel/change_form.html"

    @admin.display(boolean=True)
    def serves(self, model: RiskModel) -> bool:
        return model.pk == getattr(model, "serving_id", None)

    def get_queryset(self, request: HttpRequest) -> db.QuerySet[RiskModel]:
        rows: db.QuerySet[RiskModel] = super().get_queryset(request)
        newest = RiskPromotion.objects.order_by("-id").values("model_id")[:1]
        return rows.annotate(serving_id=db.Subquery(newest))

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        return super().changelist_view(request, {**(extra_context or {}), "serving": serving_row()})

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view
        return [
            path("refit/", view(refit_view), name="risk-refit"),
            path("rescore/", view(rescore_view), name="risk-rescore"),
            path("rollback/", view(rollback_view), name="risk-rollback"),
            path("<int:pk>/promote/", view(promote_view), name="risk-promote"),
            *super().get_urls(),
        ]


@require_POST
@may_load
def verify_view(request: HttpRequest) -> HttpResponse:
    return _queued(request, "audit.jobs.verify_index", "verify-index", _("The check of the index is queued."), _ITEMS)


@require_POST
@may_load
def rebuild_view(request: HttpRequest) -> HttpResponse:
    sentence = _("Building the index anew is queued. Searches go on with the old one until it is ready.")
    return _queued(request, "audit.jobs.rebuild_index", "rebuild-index", sentence, _ITEMS)


@require_POST
@may_manage_learning
def refit_view(request: HttpRequest) -> HttpResponse:
    return _queued(request, "audit.jobs.refit_risk", "refit-risk", _("A refit is queued."), _RISK_MODELS)


@require_POST
@may_manage_learning
def rescore_view(request: HttpRequest) -> HttpResponse:
    sentence = _("Scoring the whole index anew is queued.")
    return _queued(request, "audit.jobs.rescore_index", "rescore-index", sentence, _RISK_MODELS)


@require_POST
@may_manage_learning
def rollback_view(request: HttpRequest) -> HttpResponse:
    seen = request.POST.get("from", "")
    try:
        promotion = rollback_risk(
            from_version=int(seen) if seen.isdecimal() else None,
            user_id=request.user.pk,
            reason=request.POST.get("reason", ""),
        )
    except ServesNoMore:
        messages.warning(request, _("Another version serves already. Nothing was changed."))
    except NothingToRollBack:
        messages.error(request, _("No earlier risk model served: there is nothing to go back to."))
    else:
        messages.success(request, _("Risk model %(version)d serves again.") % {"version": promotion.model.version})
        enqueue("suggest", "audit.jobs.refresh_suggestions", job_id="refresh-suggestions")
    return _to_risk_models()


@require_POST
@may_manage_learning
def promote_view(request: HttpRequest, pk: int) -> HttpResponse:
    """Let a version serve although, or because, a person looked at its figures; their reason is logged."""
    model = get_object_or_404(RiskModel, pk=pk)
    reason = request.POST.get("reason", "").strip()
    if not reason:
        messages.error(request, _("Give a reason, so that the next person knows."))
        return HttpResponseRedirect(reverse("admin:extraction_riskmodel_change", args=[pk]))
    promote_risk(model, user_id=request.user.pk, reason=reason)
    messages.success(request, _("Risk model %(version)d serves now.") % {"version": model.version})
    enqueue("suggest", "audit.jobs.refresh_suggestions", job_id="refresh-suggestions")
    return _to_risk_models()


def _refresh_suggestions() -> None:
    enqueue_after_commit("suggest", "audit.jobs.refresh_suggestions", job_id="refresh-suggestions")


def _queued(request: HttpRequest, job: str, job_id: str, sentence: str, back: str) -> HttpResponse:
    if enqueue("data", job, job_id=job_id):
        messages.success(request, sentence)
    else:
        messages.error(request, _("The queue cannot be reached. Nothing was started; `./qexplorer doctor` says why."))
    return HttpResponseRedirect(reverse(back))


def _to_risk_models() -> HttpResponseRedirect:
    return HttpResponseRedirect(reverse(_RISK_MODELS))
