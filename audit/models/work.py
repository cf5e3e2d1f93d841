"""What the loop records: suggestions, decisions, explorations, runs, exposures, judgments, removals."""

import uuid

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from audit.models.items import Arm, Item, ItemText, PolicyVersion, Report
from audit.querysets import DecisionQuerySet, JudgmentQuerySet, SuggestionQuerySet
from extraction.models import Adapter, AdapterRole


class QuerySource(models.TextChoices):
    HUMAN = "human", _("human")
    MODEL = "model", _("model")


class Mode(models.TextChoices):
    PHRASE = "phrase", _("phrase")
    CHARACTERS = "characters", _("characters")


class Query(models.Model):
    """A short phrase and its matching mode. `key` is the canonical form under `analysis`; equal keys are one query."""

    text = models.CharField(max_length=200)
    key = models.CharField(max_length=600)
    mode = models.CharField(max_length=10, choices=Mode, default=Mode.PHRASE)
    analysis = models.CharField(max_length=40)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["analysis", "mode", "key"], name="query_once")]
        verbose_name_plural = "queries"

    def __str__(self) -> str:
        return self.text


class Forecast(models.Model):
    """What a query would find, tried on the index: figures only, never items.

    `matches` live matches; `is_about` where the engine cannot count exactly; `unseen` of the first 100 matches, those
    never exposed; `overlap` of them, those another accepted query of the report shows; past precision = `past_toxic`
    of `past_judged` judged matches, removed ones included (p(k|S), SPEC §2).
    """

    matches = models.PositiveIntegerField(null=True, blank=True)
    is_about = models.BooleanField(default=False)
    unseen = models.PositiveIntegerField(null=True, blank=True)
    overlap = models.PositiveIntegerField(null=True, blank=True)
    past_toxic = models.PositiveIntegerField(null=True, blank=True)
    past_judged = models.PositiveIntegerField(null=True, blank=True)

    class Meta:
        abstract = True


class Generation(models.Model):
    """The queries that an adapter proposes for a text, written ahead of the auditor. Append-only.

    `spans` is [[start, end, confidence], …], best first, in code points of the text: no text stands here. A shadow's
    rows are shown to nobody.
    """

    item_text = models.ForeignKey(ItemText, on_delete=models.PROTECT, related_name="generations")
    adapter = models.ForeignKey(Adapter, on_delete=models.PROTECT, related_name="+")
    spans = models.JSONField()
    took_ms = models.FloatField(help_text="Its share of the time that its batch took.")
    at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["id"]
        constraints = [models.UniqueConstraint(fields=["item_text", "adapter"], name="generation_once")]

    def __str__(self) -> str:
        return f"{len(self.spans)} queries of {self.adapter_id} for text {self.item_text_id}"


class SuggestionBatch(models.Model):
    """The suggestions that one suggester computed for a report at one moment. A refresh writes a new batch."""

    report = models.ForeignKey(Report, on_delete=models.PROTECT, related_name="batches")
    item_text = models.ForeignKey(ItemText, on_delete=models.PROTECT, related_name="+")
    policy_version = models.ForeignKey(PolicyVersion, on_delete=models.PROTECT, related_name="+")
    suggester = models.CharField(max_length=60)
    suggester_version = models.CharField(max_length=80, help_text="Risk model, and adapter where one proposed.")
    index_generation = models.CharField(max_length=120)
    tried = models.PositiveIntegerField(default=0, help_text="Phrases tried on the index.")
    adapter = models.ForeignKey(
        Adapter, on_delete=models.PROTECT, null=True, blank=True, related_name="+", help_text="Whose queries are in it."
    )
    adapter_role = models.CharField(max_length=10, choices=AdapterRole, blank=True)
    at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["id"]
        verbose_name_plural = "suggestion batches"

    def __str__(self) -> str:
        return f"batch {self.pk} of report {self.report_id}"


class Proposer(models.TextChoices):
    SEARCH = "search", _("search")
    MODEL = "model", _("language model")
    BOTH = "both", _("search and language model")


class Suggestion(Forecast):
    """A query that a suggester proposes for a report. Append-only: its state is derived from its decisions.

    `estimate` (expected share of toxic among what it retrieves) and `novelty` order the list and are never shown.
    """

    public_id = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    batch = models.ForeignKey(SuggestionBatch, on_delete=models.PROTECT, related_name="suggestions")
    report = models.ForeignKey(Report, on_delete=models.PROTECT, related_name="suggestions")
    query = models.ForeignKey(Query, on_delete=models.PROTECT, related_name="suggestions")
    text = models.CharField(max_length=200, help_text="As it stands in the report.")
    span_start = models.PositiveIntegerField(null=True, blank=True)
    span_end = models.PositiveIntegerField(null=True, blank=True)
    rank = models.PositiveIntegerField()
    estimate = models.FloatField()
    novelty = models.FloatField()
    proposer = models.CharField(max_length=6, choices=Proposer, default=Proposer.SEARCH)
    confidence = models.FloatField(
        null=True, blank=True, help_text="Mean log-probability of its tokens under the adapter, nats."
    )

    objects = SuggestionQuerySet.as_manager()

    class Meta:
        ordering = ["rank", "id"]
        constraints = [models.UniqueConstraint(fields=["batch", "query"], name="suggestion_once_a_batch")]

    def __str__(self) -> str:
        return self.text


class DecisionKind(models.TextChoices):
    ACCEPTED = "accepted", _("accepted")
    EDITED = "edited", _("edited, accepted")
    REJECTED = "rejected", _("rejected")
    OWN = "own", _("own")
    UNDONE = "undone", _("undone")


class Decision(Forecast):
    """One word of an auditor about one query of a report. Append-only; taking it back is a row of kind undone.

    The forecast and rank are those that stood on the screen. `query` is what would run: the suggestion's, the edited
    one or the auditor's own; none for a rejection.
    """

    public_id = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    report = models.ForeignKey(Report, on_delete=models.PROTECT, related_name="decisions")
    suggestion = models.ForeignKey(
        Suggestion, on_delete=models.PROTECT, null=True, blank=True, related_name="decisions"
    )
    kind = models.CharField(max_length=8, choices=DecisionKind)
    undoes = models.OneToOneField("self", on_delete=models.PROTECT, null=True, blank=True, related_name="undone_by")
    query = models.ForeignKey(Query, on_delete=models.PROTECT, null=True, blank=True, related_name="decisions")
    source = models.CharField(max_length=5, choices=QuerySource, blank=True)
    text = models.CharField(max_length=200, blank=True)
    span_start = models.PositiveIntegerField(null=True, blank=True)
    span_end = models.PositiveIntegerField(null=True, blank=True)
    shown_rank = models.PositiveIntegerField(null=True, blank=True)
    arm = models.CharField(max_length=9, choices=Arm)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="decisions")
    at = models.DateTimeField(default=timezone.now)
    duration_ms = models.PositiveIntegerField(null=True, blank=True)

    objects = DecisionQuerySet.as_manager()

    class Meta:
        ordering = ["id"]
        constraints = [
            models.CheckConstraint(
                condition=Q(kind="undone", undoes__isnull=False) | (~Q(kind="undone") & Q(undoes__isnull=True)),
                name="only_undone_decisions_undo",
            ),
            models.CheckConstraint(
                condition=Q(kind__in=["rejected", "undone"]) | Q(query__isnull=False),
                name="a_decision_to_run_has_a_query",
            ),
        ]
        indexes = [
            models.Index(fields=["user", "-id"], name="decision_by_user"),
            models.Index(fields=["at"], name="decision_by_time"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.text}"


class RunState(models.TextChoices):
    QUEUED = "queued", _("queued")
    RUNNING = "running", _("running")
    DONE = "done", _("done")
    FAILED = "failed", _("failed")


class Exploration(models.Model):
    """One task: a batch of queries that run together. It has no report of its own; its decisions have.

    queued → running → done or failed (some query could not run; it can be run again) → queued.
    """

    public_id = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="explorations")
    at = models.DateTimeField(default=timezone.now)
    state = models.CharField(max_length=7, choices=RunState, default=RunState.QUEUED)
    job_id = models.CharField(max_length=80, blank=True)
    started = models.DateTimeField(null=True, blank=True)
    finished = models.DateTimeField(null=True, blank=True)
    pages_opened = models.PositiveIntegerField(default=0)

    class Meta:
        ordering = ["-id"]
        indexes = [
            models.Index(fields=["created_by", "-id"], name="exploration_by_user"),
            models.Index(fields=["at"], name="exploration_by_time"),
        ]

    def __str__(self) -> str:
        return self.number

    @property
    def number(self) -> str:
        return f"E-{self.pk}"


class ExplorationQuery(models.Model):
    """One query's place in an exploration, with the decisions (of one or several reports) that it serves."""

    exploration = models.ForeignKey(Exploration, on_delete=models.PROTECT, related_name="queries")
    query = models.ForeignKey(Query, on_delete=models.PROTECT, related_name="+")
    decisions = models.ManyToManyField(Decision, related_name="exploration_queries")
    position = models.PositiveIntegerField()
    state = models.CharField(max_length=7, choices=RunState, default=RunState.QUEUED)
    error = models.TextField(blank=True, help_text="One sentence for the auditor.")

    class Meta:
        ordering = ["position"]
        constraints = [models.UniqueConstraint(fields=["exploration", "query"], name="query_once_an_exploration")]
        verbose_name_plural = "exploration queries"

    def __str__(self) -> str:
        return f"{self.exploration_id}: {self.query_id}"


class QueryRun(models.Model):
    """One query against one state of the index. Append-only, written once, when it ends.

    `ranking` is the ordered list [[item id, risk], …] kept for paging (at most RUN_KEEP); `live` + `removed` are all
    matches, `removed` those that were already not live.
    """

    exploration_query = models.OneToOneField(ExplorationQuery, on_delete=models.PROTECT, related_name="run")
    query = models.ForeignKey(Query, on_delete=models.PROTECT, related_name="runs")
    engine = models.CharField(max_length=40)
    index_generation = models.CharField(max_length=120)
    analysis = models.CharField(max_length=40)
    risk_version = models.PositiveIntegerField(null=True, blank=True)
    live = models.PositiveIntegerField()
    removed = models.PositiveIntegerField()
    is_about = models.BooleanField(default=False)
    ranking = models.JSONField()
    took_ms = models.FloatField()
    at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["id"]

    def __str__(self) -> str:
        return f"run {self.pk} of query {self.query_id}"


class Exposure(models.Model):
    """An item shown for a query, with its rank in that query's run, logged when its page was opened. Append-only.

    An item that several queries found is shown once (at `position` of the exploration) and logged for each.
    """

    run = models.ForeignKey(QueryRun, on_delete=models.PROTECT, related_name="exposures")
    rank = models.PositiveIntegerField()
    item = models.ForeignKey(Item, on_delete=models.PROTECT, related_name="exposures")
    item_text = models.ForeignKey(ItemText, on_delete=models.PROTECT, related_name="exposures")
    page = models.PositiveIntegerField(help_text="Page of the exploration's results that showed it, from 1.")
    position = models.PositiveIntegerField(help_text="Place among the results of the exploration, from 1.")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint(fields=["run", "item"], name="exposure_once_a_run"),
            models.UniqueConstraint(fields=["run", "rank"], name="one_item_a_rank"),
        ]
        indexes = [models.Index(fields=["run", "page"], name="exposure_page")]

    def __str__(self) -> str:
        return f"run {self.run_id} rank {self.rank}"


class Pool(models.Model):
    """A judging task: texts that an evaluation needs judged before its figures say anything.

    open → closed, when enough of it is judged or another evaluation took its place: the rest is then not asked for.
    """

    name = models.CharField(max_length=60, unique=True)
    opened = models.DateTimeField(default=timezone.now)
    closed = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["id"]

    def __str__(self) -> str:
        return self.name


class PoolItem(models.Model):
    """A text that two adapters' queries found and nobody judged yet: to be judged, with its source hidden.

    Append-only. Texts are shown in the order of `position`, which is random.
    """

    public_id = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    pool = models.ForeignKey(Pool, on_delete=models.PROTECT, related_name="items")
    item_text = models.ForeignKey(ItemText, on_delete=models.PROTECT, related_name="pool_items")
    policy_version = models.ForeignKey(PolicyVersion, on_delete=models.PROTECT, related_name="+")
    position = models.PositiveIntegerField()
    at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["pool", "position"]
        constraints = [
            models.UniqueConstraint(fields=["pool", "item_text"], name="pool_item_once"),
            models.UniqueConstraint(fields=["pool", "position"], name="one_pool_item_a_place"),
        ]

    def __str__(self) -> str:
        return f"{self.pool} {self.position}"


class Verdict(models.TextChoices):
    TOXIC = "toxic", _("toxic")
    NORMAL = "normal", _("normal")
    CANT_TELL = "cant_tell", _("can't tell")


class Judgment(models.Model):
    """One person's verdict on an item text under a policy version. Append-only; an undo is a row that `undoes` one.

    It names what it was made on: an exposure, the report itself when the reported text was judged, or the place in a
    pool of an evaluation.
    """

    public_id = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    item_text = models.ForeignKey(ItemText, on_delete=models.PROTECT, related_name="judgments")
    policy_version = models.ForeignKey(PolicyVersion, on_delete=models.PROTECT, related_name="judgments")
    verdict = models.CharField(max_length=9, choices=Verdict, blank=True)
    undoes = models.OneToOneField("self", on_delete=models.PROTECT, null=True, blank=True, related_name="undone_by")
    exposure = models.ForeignKey(Exposure, on_delete=models.PROTECT, null=True, blank=True, related_name="judgments")
    report = models.ForeignKey(Report, on_delete=models.PROTECT, null=True, blank=True, related_name="judgments")
    pool_item = models.ForeignKey(PoolItem, on_delete=models.PROTECT, null=True, blank=True, related_name="judgments")
    reason = models.TextField(blank=True)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="judgments")
    at = models.DateTimeField(default=timezone.now)
    duration_ms = models.PositiveIntegerField(null=True, blank=True)

    objects = JudgmentQuerySet.as_manager()

    class Meta:
        ordering = ["id"]
        constraints = [
            models.CheckConstraint(
                condition=Q(undoes__isnull=True, verdict__gt="") | Q(undoes__isnull=False, verdict=""),
                name="a_judgment_has_a_verdict_or_undoes_one",
            ),
            models.CheckConstraint(
                condition=Q(exposure__isnull=True, report__isnull=False, pool_item__isnull=True)
                | Q(exposure__isnull=False, report__isnull=True, pool_item__isnull=True)
                | Q(exposure__isnull=True, report__isnull=True, pool_item__isnull=False),
                name="a_judgment_names_what_it_was_made_on",
            ),
        ]
        indexes = [
            models.Index(fields=["item_text", "policy_version"], name="judgment_standing"),
            models.Index(fields=["user", "-id"], name="judgment_by_user"),
            models.Index(fields=["at"], name="judgment_by_time"),
        ]

    def __str__(self) -> str:
        return f"{self.verdict or 'undo'} on text {self.item_text_id}"


class StandingVerdict(models.Model):
    """The standing verdict on (item text, policy version): derived from the judgments, rewritten with each.

    `is_disputed`: two people disagree; it counts as unjudged until settled, and `verdict` is then empty.
    """

    item_text = models.ForeignKey(ItemText, on_delete=models.PROTECT, related_name="standing_verdicts")
    policy_version = models.ForeignKey(PolicyVersion, on_delete=models.PROTECT, related_name="+")
    verdict = models.CharField(max_length=9, choices=Verdict, blank=True)
    is_disputed = models.BooleanField(default=False)
    judgment = models.ForeignKey(Judgment, on_delete=models.PROTECT, related_name="+")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["item_text", "policy_version"], name="one_standing_verdict")]

    def __str__(self) -> str:
        return f"{self.verdict or 'disputed'} on text {self.item_text_id}"


class RemovalKind(models.TextChoices):
    REMOVED = "removed", _("removed")
    REINSTATED = "reinstated", _("reinstated")


class Removal(models.Model):
    """An item leaves the results, or comes back. Append-only; the item's state is the newest row."""

    item = models.ForeignKey(Item, on_delete=models.PROTECT, related_name="removals")
    kind = models.CharField(max_length=10, choices=RemovalKind)
    judgment = models.ForeignKey(Judgment, on_delete=models.PROTECT, null=True, blank=True, related_name="removals")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    reason = models.TextField(blank=True)
    at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["id"]

    def __str__(self) -> str:
        return f"{self.kind} item {self.item_id}"
