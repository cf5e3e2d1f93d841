"""What serves: risk models (adapters come with learning)."""

from django.conf import settings
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.db import models
from django.utils import timezone


class RiskModel(models.Model):
    """A fitted risk model. Its weights lie in the storage under their digest; no path stands in a row."""

    version = models.PositiveIntegerField(unique=True)
    digest = models.CharField(max_length=64)
    analysis = models.CharField(max_length=40)
    fitted = models.DateTimeField(default=timezone.now)
    positives = models.PositiveIntegerField()
    negatives = models.PositiveIntegerField()
    unlabelled = models.PositiveIntegerField()
    held_out = models.PositiveIntegerField(default=0, help_text="Judged texts kept out for the check.")
    held_out_loss = models.FloatField(null=True, blank=True, help_text="Log loss on them, nats.")
    baseline_loss = models.FloatField(null=True, blank=True, help_text="The model it would replace, on the same texts.")
    base_rate = models.FloatField(default=0.0, help_text="Mean risk of the random unlabelled items it was fitted with.")
    refusal = models.TextField(blank=True, help_text="Why it does not serve, where the check refused it.")

    class Meta:
        ordering = ["-version"]

    def __str__(self) -> str:
        return f"risk {self.version}"


class RiskPromotion(models.Model):
    """A risk model begins to serve. Append-only: the newest row says which one serves; a rollback is a row too."""

    model = models.ForeignKey(RiskModel, on_delete=models.PROTECT, related_name="promotions")
    is_rollback = models.BooleanField(default=False)
    reason = models.TextField(blank=True)
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, blank=True, related_name="+"
    )
    at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["id"]

    def __str__(self) -> str:
        return f"{self.model} from {self.at:%Y-%m-%d %H:%M}"


def store_artifact(data: bytes, digest: str) -> None:
    """Put `data` under its digest; putting it twice does no harm."""
    name = artifact_name(digest)
    if not default_storage.exists(name):
        default_storage.save(name, ContentFile(data))


def artifact_name(digest: str) -> str:
    return f"artifacts/{digest[:2]}/{digest}"
