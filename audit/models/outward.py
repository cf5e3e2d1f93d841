"""What enters and leaves the system: import files, exports, API keys, the verdict outbox and its webhooks."""

import uuid

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from rest_framework_api_key.models import AbstractAPIKey

from audit.models.items import Item


class ApiKey(AbstractAPIKey):
    """A hashed, revocable token of the platform's. Its scopes say which parts of the API it opens."""

    can_write_items = models.BooleanField(default=False)
    can_write_complaints = models.BooleanField(default=False)
    can_read_verdicts = models.BooleanField(default=False)
    platform = models.CharField(max_length=40, help_text="The only platform whose rows this key may write or read.")

    class Meta(AbstractAPIKey.Meta):
        verbose_name = "API key"
        verbose_name_plural = "API keys"


class JobState(models.TextChoices):
    DRAFT = "draft", _("not started")
    QUEUED = "queued", _("queued")
    RUNNING = "running", _("running")
    DONE = "done", _("done")
    FAILED = "failed", _("failed")
    CANCELLED = "cancelled", _("cancelled")


class ImportKind(models.TextChoices):
    ITEMS = "items", _("items")
    REPORTS = "reports", _("reports")


class ImportFile(models.Model):
    """One file on its way in. `offset` is where a stopped import goes on; `problems` lists refused lines."""

    public_id = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    kind = models.CharField(max_length=7, choices=ImportKind)
    name = models.CharField(max_length=200)
    digest = models.CharField(max_length=64)
    file = models.FileField(upload_to="imports", blank=True)
    options = models.JSONField(default=dict, blank=True)
    state = models.CharField(max_length=9, choices=JobState, default=JobState.QUEUED)
    error = models.TextField(blank=True)
    offset = models.BigIntegerField(default=0, help_text="Bytes read and stored so far.")
    size = models.BigIntegerField(default=0)
    line = models.PositiveIntegerField(default=0)
    created_count = models.PositiveIntegerField(default=0)
    changed_count = models.PositiveIntegerField(default=0)
    same_count = models.PositiveIntegerField(default=0)
    bad_count = models.PositiveIntegerField(default=0)
    problems = models.JSONField(default=list, blank=True, help_text="[[line, reason], …], the first 1,000.")
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, blank=True, related_name="+"
    )
    at = models.DateTimeField(default=timezone.now)
    finished = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return self.name


class ExportFormat(models.TextChoices):
    JSONL = "jsonl", "JSONL"
    CSV = "csv", "CSV"
    PARQUET = "parquet", "Parquet"
    TREC = "trec", "TREC"
    MARKDOWN = "md", "Markdown"


class Export(models.Model):
    """One export of the logs: what was asked, by whom and why, and the file that answers it until `expires`."""

    public_id = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    stream = models.CharField(max_length=40)
    format = models.CharField(max_length=7, choices=ExportFormat)
    since = models.DateTimeField(null=True, blank=True)
    until = models.DateTimeField(null=True, blank=True)
    is_unmasked = models.BooleanField(default=False)
    reason = models.TextField(blank=True)
    state = models.CharField(max_length=9, choices=JobState, default=JobState.QUEUED)
    error = models.TextField(blank=True)
    rows = models.BigIntegerField(default=0)
    size = models.BigIntegerField(default=0)
    digest = models.CharField(max_length=64, blank=True)
    file = models.FileField(upload_to="exports", blank=True)
    manifest = models.JSONField(default=dict, blank=True)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="exports")
    at = models.DateTimeField(default=timezone.now)
    finished = models.DateTimeField(null=True, blank=True)
    expires = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"{self.stream}.{self.format}"


class OutboxEvent(models.Model):
    """A verdict, removal or reinstatement that the platform is to learn of. Append-only, written with its cause."""

    public_id = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    item = models.ForeignKey(Item, on_delete=models.PROTECT, related_name="outbox_events")
    kind = models.CharField(max_length=20)
    payload = models.JSONField()
    at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["id"]

    def __str__(self) -> str:
        return f"{self.kind} item {self.item_id}"


class OutboxPublication(models.Model):
    """The cursor number of an event, given by the one publisher after the event's transaction was committed.

    Feeds and webhooks go by `sequence`, never by the event's id: ids are taken before commit and may appear late.
    """

    sequence = models.BigIntegerField(primary_key=True)
    event = models.OneToOneField(OutboxEvent, on_delete=models.PROTECT, related_name="publication")
    at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["sequence"]

    def __str__(self) -> str:
        return str(self.sequence)


class WebhookEndpoint(models.Model):
    """An address of the platform's that gets the verdicts pushed, signed with its secret (HMAC-SHA256)."""

    url = models.URLField(max_length=1000)
    platform = models.CharField(max_length=40)
    secret = models.CharField(max_length=200)
    is_active = models.BooleanField(default=True)
    position = models.BigIntegerField(default=0, help_text="Every publication up to this number has its delivery row.")
    at = models.DateTimeField(default=timezone.now)

    def __str__(self) -> str:
        return self.url


class WebhookDelivery(models.Model):
    """One event on its way to one endpoint: waiting → delivered, or given up after the last attempt."""

    endpoint = models.ForeignKey(WebhookEndpoint, on_delete=models.CASCADE, related_name="deliveries")
    publication = models.ForeignKey(OutboxPublication, on_delete=models.PROTECT, related_name="deliveries")
    item = models.ForeignKey(Item, on_delete=models.PROTECT, related_name="+")
    attempts = models.PositiveIntegerField(default=0)
    next_attempt = models.DateTimeField(default=timezone.now)
    delivered = models.DateTimeField(null=True, blank=True)
    given_up = models.DateTimeField(null=True, blank=True)
    last_answer = models.CharField(max_length=200, blank=True)

    class Meta:
        ordering = ["publication"]
        verbose_name_plural = "webhook deliveries"
        constraints = [models.UniqueConstraint(fields=["endpoint", "publication"], name="delivery_once")]
        indexes = [
            models.Index(
                fields=["endpoint", "next_attempt"],
                condition=Q(delivered__isnull=True, given_up__isnull=True),
                name="delivery_waiting",
            )
        ]

    def __str__(self) -> str:
        return f"{self.endpoint_id} {self.publication_id}"
