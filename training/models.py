"""What learning makes and how it went: datasets, runs, frozen evaluation sets, evaluations, and the settings of it."""

from django.conf import settings
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from audit.models import JobState
from extraction.models import Adapter, AdapterKind, BaseModel


class DatasetKind(models.TextChoices):
    SFT = "sft", _("D: text and phrase")
    CAT = "cat", _("D_cat: joined texts and phrases")
    UNION = "union", _("D + D_cat")
    COMP = "comp", _("D_comp: preferences, p above 0.05")
    COMP2 = "comp2", _("D_comp2: preferences, p above 0")
    POL = "pol", _("D_pol: the adapter's own candidates, scored")
    LIST = "list", _("ranked lists for PRO")


class EvaluationSet(models.Model):
    """A frozen set of test reports and the index as it was live at `cutoff`. Nothing of it is ever trained on.

    `reports` is [[report id, item text id], …]: confirmed reports that were opened after the cut-off. `clusters` are
    the near-duplicate clusters (as digests of their smallest member) that no dataset may touch.
    """

    name = models.SlugField(max_length=40, unique=True)
    cutoff = models.DateTimeField()
    reports = models.JSONField(default=list)
    clusters = models.JSONField(default=list)
    items = models.PositiveIntegerField(default=0, help_text="Items in its index.")
    digest = models.CharField(max_length=64)
    at = models.DateTimeField(default=timezone.now)
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, blank=True, related_name="+"
    )

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return self.name


class Dataset(models.Model):
    """One build: immutable once done, named by its kind and number. Its rows lie in the storage as JSONL.

    queued → running → done or failed. A dry run ends as a draft, which can be built: → queued.
    """

    name = models.SlugField(max_length=60, unique=True)
    kind = models.CharField(max_length=5, choices=DatasetKind)
    options = models.JSONField(default=dict, blank=True, help_text="Every setting of the build.")
    attempts = models.PositiveIntegerField(default=0)
    is_dry_run = models.BooleanField(default=False, help_text="Count only; done, it waits as a draft to be built.")
    state = models.CharField(max_length=9, choices=JobState, default=JobState.QUEUED)
    error = models.TextField(blank=True)
    excluded = models.ForeignKey(
        EvaluationSet, on_delete=models.PROTECT, null=True, blank=True, help_text="Whose clusters were left out."
    )
    adapter = models.ForeignKey(
        Adapter, on_delete=models.PROTECT, null=True, blank=True, related_name="+", help_text="Who proposed (D_pol)."
    )
    until = models.DateTimeField(help_text="The log up to here.")
    rows_in = models.PositiveIntegerField(default=0)
    rows_out = models.PositiveIntegerField(default=0)
    dropped = models.JSONField(default=dict, blank=True, help_text="Reason: how many.")
    card = models.JSONField(default=dict, blank=True, help_text="Shares by source, distinct queries, lengths, groups.")
    preview = models.JSONField(default=list, blank=True, help_text="Line numbers of the rows that the page shows.")
    digest = models.CharField(max_length=64, blank=True, help_text="SHA-256 of the JSONL file, its key in the storage.")
    at = models.DateTimeField(default=timezone.now)
    seen = models.DateTimeField(null=True, blank=True, help_text="Last sign of life.")
    finished = models.DateTimeField(null=True, blank=True)
    searched = models.DateTimeField(null=True, blank=True, help_text="When it was last searched for erased texts.")
    withdrawn = models.DateTimeField(null=True, blank=True, help_text="It held an erased text; its file is deleted.")
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, blank=True, related_name="+"
    )

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return self.name


class BaseBuild(models.Model):
    """The making of one base model of the item texts. queued → running → done or failed; a stop → queued again."""

    profile = models.CharField(max_length=10)
    state = models.CharField(max_length=9, choices=JobState, default=JobState.QUEUED)
    error = models.TextField(blank=True, help_text="One sentence for the admin.")
    attempts = models.PositiveIntegerField(default=0)
    step = models.PositiveIntegerField(default=0)
    max_steps = models.PositiveIntegerField(default=0)
    base = models.OneToOneField(BaseModel, on_delete=models.PROTECT, null=True, blank=True, related_name="build")
    at = models.DateTimeField(default=timezone.now)
    seen = models.DateTimeField(null=True, blank=True, help_text="Last sign of life.")
    finished = models.DateTimeField(null=True, blank=True)
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, blank=True, related_name="+"
    )

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["profile"],
                condition=models.Q(state__in=[JobState.QUEUED, JobState.RUNNING]),
                name="one_build_of_a_size",
            )
        ]

    def __str__(self) -> str:
        return f"{self.profile} base {self.pk}"


class RunState(models.TextChoices):
    WAITING = "waiting", _("waiting for the step before")
    QUEUED = "queued", _("queued")
    RUNNING = "running", _("running")
    EVALUATING = "evaluating", _("evaluating")
    DONE = "done", _("done")
    PROMOTED = "promoted", _("promoted")
    REFUSED = "refused", _("refused")
    FAILED = "failed", _("failed")
    CANCELLED = "cancelled", _("cancelled")


class Run(models.Model):
    """One training run. It makes an adapter; the last of a chain is evaluated and may be promoted by the gate.

    waiting → queued → running → done, or → evaluating → promoted, refused or done (a person decides);
    running → cancelled or failed, both with a checkpoint from which it can be resumed → queued.
    """

    kind = models.CharField(max_length=3, choices=AdapterKind)
    recipe = models.CharField(max_length=60)
    config = models.JSONField(help_text="Every setting, as the recipe and the launch gave it.")
    base = models.ForeignKey(BaseModel, on_delete=models.PROTECT, related_name="runs")
    after = models.ForeignKey("self", on_delete=models.PROTECT, null=True, blank=True, related_name="next_runs")
    start = models.ForeignKey(
        Adapter, on_delete=models.PROTECT, null=True, blank=True, related_name="+", help_text="The SFT adapter."
    )
    dataset = models.ForeignKey(Dataset, on_delete=models.PROTECT, related_name="runs")
    evaluation_set = models.ForeignKey(
        EvaluationSet, on_delete=models.PROTECT, null=True, blank=True, help_text="Evaluate on it at the end."
    )
    gate_decides = models.BooleanField(default=False, help_text="The gate promotes by itself; else a person decides.")
    seed = models.PositiveIntegerField(default=0)
    state = models.CharField(max_length=10, choices=RunState, default=RunState.QUEUED)
    cancel_requested = models.BooleanField(default=False)
    job_id = models.CharField(max_length=80, blank=True)
    step = models.PositiveIntegerField(default=0)
    max_steps = models.PositiveIntegerField(default=0)
    loss = models.FloatField(null=True, blank=True)
    reward_margin = models.FloatField(null=True, blank=True)
    tokens_per_s = models.FloatField(null=True, blank=True)
    seconds_left = models.FloatField(null=True, blank=True)
    memory_mb = models.PositiveIntegerField(null=True, blank=True)
    curve = models.JSONField(default=list, blank=True, help_text="[[step, loss, reward margin or null], …]")
    notes = models.JSONField(default=list, blank=True, help_text="What happened on the way, one sentence each.")
    checkpoint = models.CharField(max_length=64, blank=True, help_text="Digest of the newest stored checkpoint.")
    checkpoint_step = models.PositiveIntegerField(default=0)
    attempts = models.PositiveIntegerField(default=0, help_text="Begun so often since the newest checkpoint.")
    error = models.TextField(blank=True, help_text="One sentence for the admin.")
    trace = models.TextField(blank=True)
    adapter = models.OneToOneField(Adapter, on_delete=models.PROTECT, null=True, blank=True, related_name="run")
    at = models.DateTimeField(default=timezone.now)
    started = models.DateTimeField(null=True, blank=True)
    finished = models.DateTimeField(null=True, blank=True)
    seen = models.DateTimeField(null=True, blank=True, help_text="Last sign of life.")
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, blank=True, related_name="+"
    )

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"run {self.pk}"


class GateVerdict(models.TextChoices):
    PASSES = "passes", _("passes")
    REFUSES = "refuses", _("refuses")
    UNDECIDED = "undecided", _("undecided: more has to be judged")


class Evaluation(models.Model):
    """An adapter measured on a frozen set, alone and beside the adapter that served then.

    `figures` and `baseline_figures` are the measures of training.metrics; `by_report` is {report id: [unique toxic
    items of the adapter, of the baseline]}; `comparison` the paired difference; `gate` the rules with their figures.
    """

    adapter = models.ForeignKey(Adapter, on_delete=models.PROTECT, related_name="evaluations")
    baseline = models.ForeignKey(
        Adapter, on_delete=models.PROTECT, null=True, blank=True, related_name="+", help_text="Empty: nobody served."
    )
    evaluation_set = models.ForeignKey(EvaluationSet, on_delete=models.PROTECT, related_name="evaluations")
    state = models.CharField(max_length=9, choices=JobState, default=JobState.QUEUED)
    error = models.TextField(blank=True)
    figures = models.JSONField(default=dict, blank=True)
    baseline_figures = models.JSONField(default=dict, blank=True)
    by_report = models.JSONField(default=dict, blank=True)
    comparison = models.JSONField(default=dict, blank=True)
    gate = models.JSONField(default=list, blank=True, help_text="[{rule, holds, figures}, …]")
    verdict = models.CharField(max_length=9, choices=GateVerdict, blank=True)
    to_judge = models.PositiveIntegerField(default=0, help_text="How many pooled texts still have to be judged.")
    found = models.CharField(
        max_length=64, blank=True, help_text="Digest of what every query found: the figures are made of it."
    )
    at = models.DateTimeField(default=timezone.now)
    seen = models.DateTimeField(null=True, blank=True, help_text="Last sign of life.")
    finished = models.DateTimeField(null=True, blank=True)
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, blank=True, related_name="+"
    )

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"evaluation {self.pk} of {self.adapter}"


class Refusal(models.Model):
    """Somebody, or the gate, looked at an adapter and did not let it serve; the reason is kept. Append-only."""

    adapter = models.ForeignKey(Adapter, on_delete=models.PROTECT, related_name="refusals")
    evaluation = models.ForeignKey(Evaluation, on_delete=models.PROTECT, null=True, blank=True, related_name="+")
    reason = models.TextField()
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.PROTECT,
        null=True,
        blank=True,
        related_name="+",
        help_text="Empty: the gate.",
    )
    at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"{self.adapter} refused"


class ShadowScore(models.Model):
    """What an adapter generated for live reports, scored beside the one that served when it was asked for.

    queued → running → done or failed. `figures`, `other_figures` and `comparison` are those of training.gate.
    """

    adapter = models.ForeignKey(Adapter, on_delete=models.PROTECT, related_name="shadow_scores")
    other = models.ForeignKey(Adapter, on_delete=models.PROTECT, related_name="+", help_text="Who served.")
    state = models.CharField(max_length=9, choices=JobState, default=JobState.QUEUED)
    error = models.TextField(blank=True, help_text="One sentence for the admin.")
    attempts = models.PositiveIntegerField(default=0)
    figures = models.JSONField(default=dict, blank=True)
    other_figures = models.JSONField(default=dict, blank=True)
    comparison = models.JSONField(default=dict, blank=True)
    at = models.DateTimeField(default=timezone.now)
    seen = models.DateTimeField(null=True, blank=True, help_text="Last sign of life.")
    finished = models.DateTimeField(null=True, blank=True)
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, blank=True, related_name="+"
    )

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["adapter"],
                condition=models.Q(state__in=[JobState.QUEUED, JobState.RUNNING]),
                name="one_score_of_an_adapter",
            )
        ]

    def __str__(self) -> str:
        return f"{self.adapter} beside {self.other}"


class Weekday(models.IntegerChoices):
    MONDAY = 0, _("Monday")
    TUESDAY = 1, _("Tuesday")
    WEDNESDAY = 2, _("Wednesday")
    THURSDAY = 3, _("Thursday")
    FRIDAY = 4, _("Friday")
    SATURDAY = 5, _("Saturday")
    SUNDAY = 6, _("Sunday")


class LearningSettings(models.Model):
    """One row (pk 1), edited in the admin: when to retrain by itself, what the gate asks, what is kept."""

    recipe = models.CharField(max_length=60, blank=True, help_text="What a scheduled retraining runs; empty: nothing.")
    every = models.IntegerField(choices=Weekday, null=True, blank=True, help_text="Weekday; empty: by judgments alone.")
    after_judgments = models.PositiveIntegerField(
        null=True, blank=True, help_text="New judgments after which it retrains; empty: by weekday alone."
    )
    gate_decides = models.BooleanField(default=False, help_text="A scheduled retraining may promote by itself.")
    hit_rate_margin = models.FloatField(default=0.01, help_text="How far the query hit rate may fall.")
    precision_margin = models.FloatField(default=0.02, help_text="How far precision@100 may fall.")
    judged_at_least = models.FloatField(
        default=0.9,
        validators=[MinValueValidator(0), MaxValueValidator(1)],
        help_text="judged@100 that the gate asks of both adapters.",
    )
    keep_checkpoints = models.PositiveIntegerField(default=7, help_text="Days that a finished run's checkpoint stays.")
    scheduled_on = models.DateField(null=True, blank=True, editable=False)

    class Meta:
        verbose_name = "learning settings"
        verbose_name_plural = "learning settings"

    def __str__(self) -> str:
        return "learning settings"

    @classmethod
    def load(cls) -> "LearningSettings":
        return cls.objects.get_or_create(pk=1)[0]
