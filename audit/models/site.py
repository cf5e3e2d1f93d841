"""Settings that people change, requests already recorded, and passes through the append-only guard."""

from django.conf import settings
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

from audit.models.items import Policy


class SiteSettings(models.Model):
    """One row (pk 1), edited in the admin."""

    own_first_share = models.FloatField(
        default=0.1,
        validators=[MinValueValidator(0), MaxValueValidator(1)],
        help_text="Share of claims in which suggestions appear only after the auditor marked their own queries.",
    )
    due_hours = models.PositiveIntegerField(default=24, help_text="A new report is due this many hours after it opens.")
    risk_margin = models.FloatField(
        default=0.02, help_text="A refitted risk model serves if its held-out log loss is not worse by more (nats)."
    )
    nightly_on = models.DateField(
        null=True, blank=True, editable=False, help_text="The last day (site zone) whose nightly jobs were queued."
    )
    verified_index = models.CharField(
        max_length=120, blank=True, editable=False, help_text="Generation of the index that was last verified."
    )

    class Meta:
        verbose_name = "site settings"
        verbose_name_plural = "site settings"

    def __str__(self) -> str:
        return "site settings"

    @classmethod
    def load(cls) -> "SiteSettings":
        return cls.objects.get_or_create(pk=1)[0]


class SuggesterName(models.TextChoices):
    SEARCH = "search", _("search")
    LLM = "llm", _("language model")


class SuggesterSwitch(models.Model):
    """Turns one suggester on or off for a policy, or for the whole site where no policy is named."""

    suggester = models.CharField(max_length=60, choices=SuggesterName)
    policy = models.ForeignKey(Policy, on_delete=models.CASCADE, null=True, blank=True)
    is_on = models.BooleanField(default=True)

    class Meta:
        verbose_name_plural = "suggester switches"
        constraints = [
            models.UniqueConstraint(
                fields=["suggester", "policy"], condition=Q(policy__isnull=False), name="one_switch_a_policy"
            ),
            models.UniqueConstraint(fields=["suggester"], condition=Q(policy=None), name="one_switch_a_site"),
        ]

    def __str__(self) -> str:
        return f"{self.suggester} {'on' if self.is_on else 'off'}"


class Theme(models.TextChoices):
    SYSTEM = "system", _("As my system")
    LIGHT = "light", _("Light")
    DARK = "dark", _("Dark")


class TextSize(models.TextChoices):
    NORMAL = "normal", pgettext_lazy("text size", "Normal")
    LARGE = "large", _("Large")
    LARGER = "larger", _("Larger")


class UserPreferences(models.Model):
    """How one person wants the pages."""

    user = models.OneToOneField(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="preferences")
    theme = models.CharField(max_length=6, choices=Theme, default=Theme.SYSTEM)
    text_size = models.CharField(max_length=6, choices=TextSize, default=TextSize.NORMAL)
    letter_keys = models.BooleanField(default=True)

    class Meta:
        verbose_name_plural = "user preferences"

    def __str__(self) -> str:
        return f"preferences of {self.user_id}"


class RecordedRequest(models.Model):
    """The key of a POST that was recorded. A second one with the same key records nothing. Append-only."""

    key = models.UUIDField(primary_key=True)
    action = models.CharField(max_length=40)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    at = models.DateTimeField(default=timezone.now)

    def __str__(self) -> str:
        return str(self.key)


class MaintenancePass(models.Model):
    """A logged pass through the append-only guard (restore, erasure, test set-up).

    While a row without `closed` is visible, the triggers let changes through. The row is opened and closed in one
    transaction, so no other connection ever sees it open.
    """

    reason = models.CharField(max_length=200)
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, blank=True, related_name="+"
    )
    opened = models.DateTimeField(default=timezone.now)
    closed = models.DateTimeField(null=True, blank=True)

    class Meta:
        verbose_name_plural = "maintenance passes"

    def __str__(self) -> str:
        return self.reason
