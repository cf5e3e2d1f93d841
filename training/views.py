"""The admin's pages of learning: one of everything, and one each for a run, a dataset, an adapter, an evaluation."""

from typing import Any

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.http import FileResponse, Http404, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from audit.exports import log_handed_over
from audit.forms import RecordingForm
from audit.models import JobState
from audit.services.errors import AlreadyRecorded, ServiceError
from audit.views.http import RoleRequest, fragments, role_required, see_other, status_of, wants_fragment
from extraction.artifacts import DamagedArtifact, open_artifact
from extraction.models import Adapter, AdapterRole, BaseModel
from extraction.registry import adapter_in
from training import services
from training.base_model import PROFILES
from training.config import load_recipe
from training.datasets import Options
from training.exports import rows_stream
from training.forms import (
    BaseForm,
    BuildForm,
    CompareForm,
    DecisionForm,
    EvaluateForm,
    FreezeForm,
    LaunchedForm,
    LaunchForm,
    RollbackForm,
    TakeForm,
)
from training.models import Dataset, DatasetKind, Evaluation, EvaluationSet, LearningSettings, Run
from training.presentation.cards import AdapterCard
from training.presentation.comparing import compared, reports_of, side_by_side
from training.presentation.datasets import DatasetRow
from training.presentation.evaluations import EvaluationView
from training.presentation.page import Overview, Schedule
from training.presentation.runs import RunRow, about, charts, run_rows, step_words

STOP_POLLING = 286
PAGE_SIZE = 20
WORK = [
    "admin/training/_runs.html",
    "admin/training/_builds.html",
    "admin/training/_adapters.html",
    "admin/training/_facts.html",
]
may_manage = role_required("manage_learning")


@may_manage
@require_GET
def overview(request: RoleRequest) -> HttpResponse:
    """Everything about learning on one page."""
    return _overview(request)


@may_manage
@require_GET
def work(request: RoleRequest) -> HttpResponse:
    """The parts of the page that change by themselves. htmx asks while something is under way; 286 ends that."""
    if not wants_fragment(request):
        return see_other("training:overview")
    page = Overview()
    status = 200 if page.is_pending else STOP_POLLING
    context: dict[str, Any] = {"page": page}
    parts = WORK
    if not page.is_pending:
        context["live"] = _("Nothing is under way any more.")
        parts = [*WORK, "admin/training/_candidates.html", "audit/_live.html"]
    return fragments(request, parts, context, status)


# --- launching --------------------------------------------------------------------------------------------------------


@may_manage
@require_http_methods(["GET", "POST"])
def launch(request: RoleRequest) -> HttpResponse:
    """GET shows what a launch would cost, and asks; POST launches."""
    if request.method == "GET":
        return _show_launch(request, LaunchForm(request.GET))
    form = LaunchedForm(request.POST)
    if not form.is_valid():
        return _show_launch(request, form, sentence=form.sentence(), status=422)
    asked = form.cleaned_data
    try:
        runs = services.launch(
            recipe=asked["recipe"],
            base=asked["base"],
            evaluation_set=asked["evaluation_set"],
            seed=asked["seed"],
            gate_decides=asked["gate_decides"],
            is_sure=asked["is_sure"],
            user=request.user,
            key=asked["key"],
        )
    except AlreadyRecorded:
        return see_other("training:overview", anchor="runs")
    except ServiceError as error:
        return _show_launch(request, form, sentence=error.sentence, status=status_of(error))
    return see_other("training:overview", anchor=f"run-{runs[0].pk}")


def _show_launch(request: RoleRequest, form: LaunchForm, *, sentence: str = "", status: int = 200) -> HttpResponse:
    context: dict[str, Any] = {"launch": form, "launch_sentence": sentence or (form.sentence() if form.errors else "")}
    if form.is_valid() or "base" in form.cleaned_data:
        context |= _estimate(form)
    if wants_fragment(request):
        return fragments(request, ["admin/training/_launch.html"], context, status)
    return _overview(request, context, status)


def _estimate(form: LaunchForm) -> dict[str, Any]:
    asked = form.cleaned_data
    if not {"recipe", "base", "seed"} <= asked.keys():
        return {}
    recipe = load_recipe(asked["recipe"])
    estimate = services.estimate(recipe=recipe, base=asked["base"], seed=asked["seed"])
    return {
        "recipe": recipe,
        "estimate": estimate,
        "steps": step_words(recipe, asked.get("evaluation_set")),
        "takes": about(estimate.seconds),
        "waits": about(estimate.waits_seconds),
        "asked": asked,
    }


# --- runs -------------------------------------------------------------------------------------------------------------


@may_manage
@require_GET
def show_run(request: RoleRequest, pk: int) -> HttpResponse:
    """One run: settings, curve, what happened on the way, the trace of an error."""
    return render(request, "admin/training/run.html", _run_context(_run(pk)))


@may_manage
@require_GET
def run_state(request: RoleRequest, pk: int) -> HttpResponse:
    """The part of a run's page that changes by itself."""
    run = _run(pk)
    if not wants_fragment(request):
        return see_other("training:run", pk)
    context = _run_context(run)
    if context["row"].is_pending:
        return render(request, "admin/training/_run.html", context)
    context["live"] = _("Run %(run)d: %(state)s.") % {"run": run.pk, "state": run.get_state_display()}
    return fragments(request, ["admin/training/_run.html", "audit/_live.html"], context, STOP_POLLING)


@may_manage
@require_POST
def cancel_run(request: RoleRequest, pk: int) -> HttpResponse:
    return _change_run(request, _run(pk), services.cancel)


@may_manage
@require_POST
def resume_run(request: RoleRequest, pk: int) -> HttpResponse:
    return _change_run(request, _run(pk), services.resume)


def _change_run(request: RoleRequest, run: Run, change: Any) -> HttpResponse:
    """Stop or resume, then back to where it was pressed."""
    form = RecordingForm(request.POST)
    sentence, status = "", 422
    if not form.is_valid():
        sentence = form.sentence()
    else:
        try:
            change(run=run)
        except ServiceError as error:
            sentence, status = error.sentence, status_of(error)
    from_run = request.POST.get("from") == "run"
    if sentence and from_run:
        return render(
            request, "admin/training/run.html", _run_context(_run(run.pk)) | {"notice": sentence}, status=status
        )
    if sentence:
        return _overview(request, {"notice": sentence}, status)
    return see_other("training:run", run.pk) if from_run else see_other("training:overview", anchor=f"run-{run.pk}")


def _run(pk: int) -> Run:
    runs = Run.objects.select_related("base", "dataset", "start", "after__adapter", "adapter", "evaluation_set", "user")
    return get_object_or_404(runs, pk=pk)


def _run_context(run: Run) -> dict[str, Any]:
    return {"here": "training", "run": run, "row": RunRow(run), "charts": charts(run), "chain": _chain(run)}


def _chain(run: Run) -> list[RunRow]:
    """The runs of one launch, first to last."""
    first = run
    while first.after is not None:
        first = first.after
    ids = [first.pk]
    while following := list(Run.objects.filter(after__in=ids[-1:]).values_list("pk", flat=True)):
        ids += following
    return run_rows(Run.objects.filter(pk__in=ids).order_by("pk"))


# --- datasets ---------------------------------------------------------------------------------------------------------


@may_manage
@require_POST
def build(request: RoleRequest) -> HttpResponse:
    """Count what a dataset of today's log would hold; its row then offers to build it."""
    form = BuildForm(request.POST)
    if not form.is_valid():
        return _overview(request, {"notice": form.sentence()}, 422)
    try:
        dataset = services.start_build(
            kind=DatasetKind(form.cleaned_data["kind"]),
            options=Options(),
            excluded=EvaluationSet.objects.first(),
            adapter=form.cleaned_data["adapter"],
            user=request.user,
            key=form.cleaned_data["key"],
            dry_run=True,
        )
    except AlreadyRecorded:
        return see_other("training:overview", anchor="builds")
    except ServiceError as error:
        return _overview(request, {"notice": error.sentence}, status_of(error))
    return see_other("training:overview", anchor=f"build-{dataset.pk}")


@may_manage
@require_POST
def build_counted(request: RoleRequest, name: str) -> HttpResponse:
    """Build what was counted."""
    dataset = get_object_or_404(Dataset, name=name)
    form = RecordingForm(request.POST)
    if not form.is_valid():
        return _overview(request, {"notice": form.sentence()}, 422)
    try:
        services.build_draft(dataset=dataset, user=request.user)
    except ServiceError as error:
        return _overview(request, {"notice": error.sentence}, status_of(error))
    return see_other("training:overview", anchor=f"build-{dataset.pk}")


@may_manage
@require_GET
def show_dataset(request: RoleRequest, name: str) -> HttpResponse:
    """Counts, shares and some of the rows of one dataset."""
    dataset = get_object_or_404(Dataset.objects.select_related("adapter", "excluded", "user"), name=name)
    return render(request, "admin/training/dataset.html", {"here": "training", "row": DatasetRow(dataset)})


@may_manage
@require_POST
def dataset_file(request: RoleRequest, name: str) -> HttpResponse:
    """The rows as JSONL. They hold texts as people wrote them, so it takes the right to export without masks, and a
    reason, which is kept as that of an export.
    """
    if not request.user.has_perm("audit.export_unmasked"):
        raise PermissionDenied
    dataset = get_object_or_404(Dataset, name=name, state=JobState.DONE, withdrawn=None)
    form = TakeForm(request.POST)
    if not form.is_valid():
        context = {"here": "training", "row": DatasetRow(dataset), "notice": form.sentence()}
        return render(request, "admin/training/dataset.html", context, status=422)
    try:
        file = open_artifact(dataset.digest)
    except DamagedArtifact as error:
        raise Http404(str(error)) from error
    log_handed_over(
        user=request.user,
        stream=rows_stream(dataset).name,
        reason=form.cleaned_data["reason"],
        manifest={"file": f"{dataset.name}.jsonl", "rows": dataset.rows_out, "sha256": dataset.digest},
    )
    response = FileResponse(
        file, as_attachment=True, filename=f"{dataset.name}.jsonl", content_type="application/jsonl"
    )
    return response  # type: ignore[return-value]  # a response like any other, only sent piece by piece


# --- adapters ---------------------------------------------------------------------------------------------------------


@may_manage
@require_GET
def show_adapter(request: RoleRequest, name: str) -> HttpResponse:
    """The card of an adapter: data, settings, evaluations, who, when, what it replaced."""
    return _adapter_page(request, _adapter(name))


@may_manage
@require_POST
def decide_adapter(request: RoleRequest, name: str) -> HttpResponse:
    """Promote, refuse, let challenge, let propose unseen, or take a role away; always with a reason."""
    adapter = _adapter(name)
    form = DecisionForm(request.POST)
    if not form.is_valid():
        return _adapter_page(request, adapter, form.sentence(), 422)
    asked = form.cleaned_data
    try:
        services.decide_adapter(
            adapter=adapter,
            decision=asked["decision"],
            reason=asked["reason"],
            evaluation=asked["evaluation"],
            share=asked["share"],
            user=request.user,
            key=asked["key"],
        )
    except AlreadyRecorded:
        return see_other("training:adapter", adapter.name)
    except ServiceError as error:
        return _adapter_page(request, adapter, error.sentence, status_of(error))
    return see_other("training:adapter", adapter.name)


@may_manage
@require_POST
def evaluate_adapter(request: RoleRequest, name: str) -> HttpResponse:
    """Measure an adapter on a frozen set, beside who serves now."""
    adapter = _adapter(name)
    form = EvaluateForm(request.POST)
    if not form.is_valid():
        return _adapter_page(request, adapter, form.sentence(), 422)
    try:
        services.start_evaluation(
            adapter=adapter,
            evaluation_set=form.cleaned_data["evaluation_set"],
            user=request.user,
            key=form.cleaned_data["key"],
        )
    except AlreadyRecorded:
        pass
    except ServiceError as error:
        return _adapter_page(request, adapter, error.sentence, status_of(error))
    return see_other("training:adapter", adapter.name, anchor="evaluations")


@may_manage
@require_POST
def score_adapter(request: RoleRequest, name: str) -> HttpResponse:
    """Score what a shadow or a challenger proposed for live reports, beside who serves now."""
    adapter = _adapter(name)
    form = RecordingForm(request.POST)
    if not form.is_valid():
        return _adapter_page(request, adapter, form.sentence(), 422)
    try:
        services.start_score(adapter=adapter, user=request.user, key=form.cleaned_data["key"])
    except AlreadyRecorded:
        pass
    except ServiceError as error:
        return _adapter_page(request, adapter, error.sentence, status_of(error))
    return see_other("training:adapter", adapter.name, anchor="live-reports")


@may_manage
@require_POST
def roll_back(request: RoleRequest) -> HttpResponse:
    """Let serve again who served before."""
    form = RollbackForm(request.POST)
    if not form.is_valid():
        return _overview(request, {"notice": form.sentence()}, 422)
    try:
        services.roll_back(
            seen=form.cleaned_data["seen"],
            reason=form.cleaned_data["reason"],
            user=request.user,
            key=form.cleaned_data["key"],
        )
    except AlreadyRecorded:
        return see_other("training:overview", anchor="adapters")
    except ServiceError as error:
        return _overview(request, {"notice": error.sentence}, status_of(error))
    return see_other("training:overview", anchor="adapters")


@may_manage
@require_GET
def compare(request: RoleRequest) -> HttpResponse:
    """Two adapters side by side on the same reports: the one that serves and the newest, where none are named."""
    newest = list(Adapter.objects.all()[:2])
    serving = adapter_in(AdapterRole.SERVING)
    right = next((adapter for adapter in (serving, *reversed(newest)) if adapter is not None), None)
    left = next((adapter for adapter in newest if adapter != right), right)
    form = CompareForm(request.GET or None, initial={"a": left, "b": right})
    if form.is_bound and form.is_valid():
        left, right = form.cleaned_data["a"], form.cleaned_data["b"]
    context: dict[str, Any] = {"here": "training", "form": form, "left": left, "right": right}
    if left is not None and right is not None:
        page = Paginator(compared(left, right), PAGE_SIZE).get_page(request.GET.get("page"))
        context |= {"page": page, "rows": side_by_side(left, right, list(page.object_list))}
    return render(request, "admin/training/compare.html", context)


@may_manage
@require_GET
def show_evaluation(request: RoleRequest, pk: int) -> HttpResponse:
    """An evaluation with its rules, and report by report what either side proposed and found."""
    rows = Evaluation.objects.select_related("adapter", "baseline", "evaluation_set", "user")
    evaluation = get_object_or_404(rows, pk=pk)
    context: dict[str, Any] = {"here": "training", "view": EvaluationView(evaluation)}
    if evaluation.state == JobState.DONE:
        found = reports_of(evaluation)
        page = Paginator(list(found), PAGE_SIZE).get_page(request.GET.get("page"))
        rows_shown = side_by_side(evaluation.adapter, evaluation.baseline, list(page.object_list), found)
        context |= {"page": page, "rows": rows_shown}
    return render(request, "admin/training/evaluation.html", context)


def _adapter(name: str) -> Adapter:
    return get_object_or_404(Adapter.objects.select_related("base", "parent", "user"), name=name)


def _adapter_page(request: RoleRequest, adapter: Adapter, notice: str = "", status: int = 200) -> HttpResponse:
    context = {
        "here": "training",
        "card": AdapterCard(adapter),
        "notice": notice,
        "test_sets": EvaluationSet.objects.all(),
    }
    return render(request, "admin/training/adapter.html", context, status=status)


# --- ground -----------------------------------------------------------------------------------------------------------


@may_manage
@require_POST
def freeze_set(request: RoleRequest) -> HttpResponse:
    """Keep the confirmed reports since a day, and the index as it was then, for testing alone."""
    form = FreezeForm(request.POST)
    if not form.is_valid():
        return _overview(request, {"notice": form.sentence()}, 422)
    try:
        services.start_freeze(
            name=form.cleaned_data["name"], cutoff=form.cutoff(), user=request.user, key=form.cleaned_data["key"]
        )
    except AlreadyRecorded:
        return see_other("training:overview", anchor="sets")
    except ServiceError as error:
        return _overview(request, {"notice": error.sentence}, status_of(error))
    messages.success(request, _("The test set is being frozen. Load the page again in a moment."))
    return see_other("training:overview", anchor="sets")


@may_manage
@require_POST
def build_base(request: RoleRequest) -> HttpResponse:
    """Make a base model of the site's own texts."""
    form = BaseForm(request.POST)
    if not form.is_valid():
        return _overview(request, {"notice": form.sentence()}, 422)
    try:
        services.start_base(profile=form.cleaned_data["profile"], user=request.user, key=form.cleaned_data["key"])
    except AlreadyRecorded:
        return see_other("training:overview", anchor="bases")
    except ServiceError as error:
        return _overview(request, {"notice": error.sentence}, status_of(error))
    messages.success(request, _("A base model is being built. It stands in the list when it is ready."))
    return see_other("training:overview", anchor="bases")


# --- the page ---------------------------------------------------------------------------------------------------------


RECIPE_OF_OWN_BASE, RECIPE_OF_NAMED_BASE = "small", "paper"


def _overview(request: RoleRequest, context: dict[str, Any] | None = None, status: int = 200) -> HttpResponse:
    values: dict[str, Any] = {
        "here": "training",
        "page": Overview(),
        "launch": LaunchForm(initial=_usual_launch()),
        "schedule": Schedule(),
        "bases": BaseModel.objects.all()[:PAGE_SIZE],
        "profiles": PROFILES,
        **(context or {}),
    }
    return render(request, "admin/training/overview.html", values, status=status)


def _usual_launch() -> dict[str, Any]:
    """What the form offers first: the base of who serves, else the newest; the recipe that the schedule runs, else one
    for that base (a small one needs learning rates of its own); the newest test set.
    """
    serving = adapter_in(AdapterRole.SERVING)
    base = serving.base if serving is not None else BaseModel.objects.first()
    usual = RECIPE_OF_OWN_BASE if base is not None and base.profile else RECIPE_OF_NAMED_BASE
    return {
        "recipe": LearningSettings.load().recipe or usual,
        "base": base.name if base is not None else None,
        "evaluation_set": EvaluationSet.objects.values_list("name", flat=True).first(),
    }
