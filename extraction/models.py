"""What serves: risk models, base models and adapters."""

from django.conf import settings
from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _


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


class BaseModel(models.Model):
    """A frozen causal language model that adapters sit on: one made here, or one by name and pinned revision.

    Rebuilding makes a new row, and a base stays while any adapter names it. Its files lie in the storage under their
    digest; a named one without a digest comes from the model hub at exactly this revision.
    """

    name = models.CharField(max_length=120, unique=True)
    reference = models.CharField(max_length=200, blank=True, help_text="Name on the model hub; empty: made here.")
    revision = models.CharField(max_length=64, blank=True, help_text="Commit of the named model.")
    digest = models.CharField(max_length=64, blank=True, help_text="Digest of the stored folder.")
    weights_hash = models.CharField(max_length=64)
    tokenizer_hash = models.CharField(max_length=64)
    template_hash = models.CharField(max_length=64)
    prompt_version = models.CharField(max_length=20)
    parameters = models.BigIntegerField()
    profile = models.CharField(max_length=10, blank=True, help_text="tiny, small or medium; empty for a named one.")
    card = models.JSONField(default=dict, blank=True, help_text="Settings, seed, versions, data and held-out figures.")
    data_digest = models.CharField(max_length=64, blank=True, help_text="Digest of the texts that it learned from.")
    data_until = models.DateTimeField(null=True, blank=True, help_text="It learned from nothing later.")
    created = models.DateTimeField(default=timezone.now)
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, blank=True, related_name="+"
    )

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return self.name


class AdapterKind(models.TextChoices):
    SFT = "sft", "SFT"
    DPO = "dpo", "DPO"
    PRO = "pro", "PRO"


class Adapter(models.Model):
    """LoRA weights of a base model. `card` tells data, recipe, versions, seed and final metrics."""

    name = models.SlugField(max_length=60, unique=True)
    kind = models.CharField(max_length=3, choices=AdapterKind)
    base = models.ForeignKey(BaseModel, on_delete=models.PROTECT, related_name="adapters")
    parent = models.ForeignKey("self", on_delete=models.PROTECT, null=True, blank=True, related_name="children")
    digest = models.CharField(max_length=64, help_text="Digest of the stored folder.")
    tokenizer_hash = models.CharField(max_length=64)
    template_hash = models.CharField(max_length=64)
    prompt_version = models.CharField(max_length=20)
    card = models.JSONField(default=dict, blank=True)
    created = models.DateTimeField(default=timezone.now)
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, blank=True, related_name="+"
    )

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return self.name


class AdapterRole(models.TextChoices):
    SERVING = "serving", _("serving")
    CHALLENGER = "challenger", _("challenger")
    SHADOW = "shadow", _("shadow")


class AdapterPromotion(models.Model):
    """An adapter takes a role, or leaves it empty. Append-only: the newest row of a role says who has it.

    The serving adapter's queries are shown. A challenger serves a share of the reports. A shadow's queries are stored
    and shown to nobody. `grounds`: the evaluation that allowed it, with its figures.
    """

    role = models.CharField(max_length=10, choices=AdapterRole, default=AdapterRole.SERVING)
    adapter = models.ForeignKey(
        Adapter, on_delete=models.PROTECT, null=True, blank=True, related_name="promotions", help_text="Empty: nobody."
    )
    share = models.FloatField(default=1.0, help_text="Share of the reports, for a challenger.")
    is_rollback = models.BooleanField(default=False)
    reason = models.TextField(blank=True)
    grounds = models.JSONField(default=dict, blank=True)
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, blank=True, related_name="+"
    )
    at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["id"]

    def __str__(self) -> str:
        return f"{self.adapter or 'nobody'} {self.role} from {self.at:%Y-%m-%d %H:%M}"
