"""What the platform sends: items, their texts, complaints; and the report that collects the complaints."""

import uuid

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from audit.querysets import ItemQuerySet, ReportQuerySet


class Policy(models.Model):
    """A category of harm. Its wording lives in its versions; a judgment names the version it was made under."""

    key = models.SlugField(max_length=60, unique=True)
    name = models.CharField(max_length=120)

    class Meta:
        ordering = ["name"]
        verbose_name_plural = "policies"

    def __str__(self) -> str:
        return self.name

    def current(self) -> "PolicyVersion":
        """The newest version (one query). Raises PolicyVersion.DoesNotExist where none was written."""
        return self.versions.latest("number")


class PolicyVersion(models.Model):
    """One wording of a policy with its label definitions. Append-only: a change of wording is a new version."""

    policy = models.ForeignKey(Policy, on_delete=models.PROTECT, related_name="versions")
    number = models.PositiveIntegerField()
    text = models.TextField(blank=True)
    toxic = models.TextField()
    normal = models.TextField()
    cant_tell = models.TextField(blank=True)
    at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["policy", "number"]
        constraints = [models.UniqueConstraint(fields=["policy", "number"], name="policy_version_once")]

    def __str__(self) -> str:
        return f"{self.policy.name} {self.number}"


class ItemState(models.TextChoices):
    LIVE = "live", _("live")
    REMOVED = "removed", _("removed")
    GONE = "gone", _("gone from the platform")


class Item(models.Model):
    """A piece of content, unique on (platform, external id).

    live → removed (by us) → live (reinstated); live or removed → gone (by the platform).
    `version` rises with every change that the index must learn; the sweeper indexes where `indexed_version` is behind.
    """

    public_id = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    platform = models.CharField(max_length=40)
    external_id = models.CharField(max_length=200)
    author_key = models.CharField(max_length=200, blank=True)
    url = models.URLField(max_length=1000, blank=True)
    created = models.DateTimeField(help_text="When the platform published it.")
    imported = models.DateTimeField(default=timezone.now)
    state = models.CharField(max_length=8, choices=ItemState, default=ItemState.LIVE)
    text = models.ForeignKey("audit.ItemText", on_delete=models.PROTECT, null=True, related_name="+")
    version = models.BigIntegerField(default=1)
    indexed_version = models.BigIntegerField(default=0)
    risk = models.FloatField(null=True, blank=True)
    risk_version = models.PositiveIntegerField(null=True, blank=True)

    objects = ItemQuerySet.as_manager()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["platform", "external_id"], name="item_once")]
        indexes = [
            models.Index(fields=["id"], condition=~Q(version=models.F("indexed_version")), name="item_to_index"),
            models.Index(fields=["platform", "author_key"], name="item_by_author"),
        ]

    def __str__(self) -> str:
        return f"{self.platform}/{self.external_id}"


class ItemText(models.Model):
    """One version of an item's text. Append-only: an edited item gets a new row; erasure blanks `text`.

    `norm_hash` is the digest of the phrase key under `analysis`: equal for texts that match each other word for word.
    """

    item = models.ForeignKey(Item, on_delete=models.PROTECT, related_name="texts")
    text = models.TextField()
    text_hash = models.CharField(max_length=64)
    norm_hash = models.CharField(max_length=64)
    analysis = models.CharField(max_length=40)
    language = models.CharField(max_length=16)
    at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["item", "text_hash"], name="item_text_once")]
        indexes = [models.Index(fields=["norm_hash"], name="item_text_equal")]

    def __str__(self) -> str:
        return f"text {self.pk} of item {self.item_id}"


class ReportStatus(models.TextChoices):
    WAITING = "waiting", _("waiting")
    CLAIMED = "claimed", _("claimed")
    EXPLORING = "exploring", _("exploring")
    CLOSED = "closed", _("closed")


class Outcome(models.TextChoices):
    CONFIRMED = "confirmed", _("confirmed")
    UNFOUNDED = "unfounded", _("unfounded")
    SKIPPED = "skipped", _("skipped")
    ESCALATED = "escalated", _("escalated")


class Arm(models.TextChoices):
    VISIBLE = "visible", _("suggestions visible")
    OWN_FIRST = "own_first", _("own queries first")


class SuggestionsState(models.TextChoices):
    PENDING = "pending", _("being prepared")
    READY = "ready", _("ready")
    NONE = "none", _("nothing worth searching")
    FAILED = "failed", _("failed")
    OFF = "off", _("switched off")


class Report(models.Model):
    """The open case that collects the complaints about one item; at most one open report an item.

    waiting ⇄ claimed → exploring (the reported text was judged toxic) → closed(confirmed)
    claimed → closed(unfounded); claimed or exploring → closed(skipped, escalated); an expired lease counts as waiting.
    """

    public_id = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    item = models.ForeignKey(Item, on_delete=models.PROTECT, related_name="reports")
    item_text = models.ForeignKey(ItemText, on_delete=models.PROTECT, related_name="reports")
    policy = models.ForeignKey(Policy, on_delete=models.PROTECT, related_name="reports")
    status = models.CharField(max_length=9, choices=ReportStatus, default=ReportStatus.WAITING)
    outcome = models.CharField(max_length=9, choices=Outcome, blank=True)
    previous = models.ForeignKey("self", on_delete=models.PROTECT, null=True, blank=True, related_name="later")
    complaint_count = models.PositiveIntegerField(default=0)
    opened = models.DateTimeField(default=timezone.now)
    due = models.DateTimeField()
    confirmed = models.DateTimeField(null=True, blank=True)
    closed = models.DateTimeField(null=True, blank=True)
    claimed_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, blank=True, related_name="claimed_reports"
    )
    lease_until = models.DateTimeField(null=True, blank=True)
    arm = models.CharField(max_length=9, choices=Arm, default=Arm.VISIBLE)
    revealed = models.DateTimeField(null=True, blank=True, help_text="When the suggestions were first shown.")
    suggestions_state = models.CharField(max_length=8, choices=SuggestionsState, default=SuggestionsState.PENDING)
    batch = models.ForeignKey(
        "audit.SuggestionBatch", on_delete=models.PROTECT, null=True, blank=True, related_name="+"
    )

    objects = ReportQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["item"], condition=~Q(status="closed"), name="one_open_report_an_item"),
            models.CheckConstraint(
                condition=Q(status="closed", outcome__gt="") | (~Q(status="closed") & Q(outcome="")),
                name="closed_reports_have_an_outcome",
            ),
        ]
        indexes = [
            models.Index(fields=["status", "due", "id"], name="report_queue"),
            models.Index(fields=["due", "id"], condition=~Q(status="closed"), name="report_open"),
            models.Index(fields=["policy", "status"], name="report_by_policy"),
        ]
        permissions = [
            ("work_reports", "Can claim reports, decide on queries and judge items"),
            ("export_logs", "Can export the logs"),
            ("export_unmasked", "Can export without masks, with a reason"),
            ("load_data", "Can import items and reports"),
            ("manage_learning", "Can refit, promote and roll back models"),
        ]

    def __str__(self) -> str:
        return self.number

    @property
    def number(self) -> str:
        return f"R-{self.pk}"

    @property
    def shows_suggestions(self) -> bool:
        """Suggestions appear once the reported text is confirmed, in the arm `own first` after the auditor's own."""
        return self.confirmed is not None and (self.arm == Arm.VISIBLE or self.revealed is not None)

    def is_held_by(self, user_id: int | None) -> bool:
        return (
            user_id is not None
            and self.claimed_by_id == user_id
            and self.status in {ReportStatus.CLAIMED, ReportStatus.EXPLORING}
            and self.lease_until is not None
            and self.lease_until > timezone.now()
        )

    @property
    def is_free(self) -> bool:
        """Open, and nobody holds a lease that still runs."""
        if self.status == ReportStatus.CLOSED:
            return False
        return self.claimed_by_id is None or self.lease_until is None or self.lease_until <= timezone.now()


class Complaint(models.Model):
    """One user's word about an item. Append-only."""

    report = models.ForeignKey(Report, on_delete=models.PROTECT, related_name="complaints")
    item_text = models.ForeignKey(ItemText, on_delete=models.PROTECT, related_name="complaints")
    platform = models.CharField(max_length=40)
    external_id = models.CharField(max_length=200)
    reporter_key = models.CharField(max_length=200, blank=True)
    reason = models.TextField(blank=True)
    policy = models.ForeignKey(Policy, on_delete=models.PROTECT, related_name="complaints")
    at = models.DateTimeField()
    imported = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["platform", "external_id"], name="complaint_once")]

    def __str__(self) -> str:
        return f"{self.platform}/{self.external_id}"


class ReportEventKind(models.TextChoices):
    OPENED = "opened", _("opened")
    CLAIMED = "claimed", _("claimed")
    RELEASED = "released", _("released")
    JUDGED = "judged", _("reported text judged")
    POLICY = "policy", _("policy corrected")
    REVEALED = "revealed", _("suggestions shown")
    CLOSED = "closed", _("closed")
    REOPENED = "reopened", _("reopened")


class ReportEvent(models.Model):
    """What happened to a report, when and by whom. Append-only; the report row is its newest state."""

    report = models.ForeignKey(Report, on_delete=models.PROTECT, related_name="events")
    kind = models.CharField(max_length=8, choices=ReportEventKind)
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, blank=True, related_name="+"
    )
    at = models.DateTimeField(default=timezone.now)
    arm = models.CharField(max_length=9, choices=Arm, blank=True)
    policy = models.ForeignKey(Policy, on_delete=models.PROTECT, null=True, blank=True, related_name="+")
    outcome = models.CharField(max_length=9, choices=Outcome, blank=True)
    reason = models.TextField(blank=True)

    class Meta:
        ordering = ["id"]

    def __str__(self) -> str:
        return f"{self.report_id} {self.kind}"
