"""The weekly counts behind the page Insights: derived from the log, and made anew from it at any time."""

from django.db import models


class CountedWeek(models.Model):
    """An ISO week of the site's zone, and how far its counts go.

    `stale` names the parts that have to be counted (again); `marked` rises with each mark, so that whoever has counted
    meanwhile does not take a newer mark for their own.
    """

    monday = models.DateField(unique=True)
    until = models.DateTimeField(
        null=True, blank=True, help_text="Moment up to which the log was counted; none: not counted yet."
    )
    definition = models.PositiveIntegerField(default=0, help_text="Version of the definitions that the counts follow.")
    zone = models.CharField(max_length=64, blank=True, help_text="Zone that the week was counted in.")
    stale = models.JSONField(default=list, blank=True)
    marked = models.PositiveIntegerField(default=0)

    class Meta:
        ordering = ["monday"]
        permissions = [("read_insights", "Can read the weekly figures")]

    def __str__(self) -> str:
        return f"{self.monday:%G-W%V}"


class WeeklyCount(models.Model):
    """One count of one week. Counts of different weeks, arms, policies, languages and suggesters can be added.

    "" stands where a count is not split; "mixed" where what was counted belongs to several; "none" where to none.
    """

    week = models.ForeignKey(CountedWeek, on_delete=models.CASCADE, related_name="counts")
    measure = models.CharField(max_length=40)
    arm = models.CharField(max_length=9, blank=True)
    policy = models.CharField(max_length=60, blank=True, help_text="Key of the policy.")
    language = models.CharField(max_length=16, blank=True)
    suggester = models.CharField(max_length=6, blank=True, help_text="Who proposed the query; human: a person.")
    version = models.CharField(max_length=80, blank=True, help_text="Version of the suggester.")
    value = models.FloatField()

    class Meta:
        ordering = ["week", "measure", "id"]
        constraints = [
            models.UniqueConstraint(
                fields=["week", "measure", "arm", "policy", "language", "suggester", "version"],
                name="weekly_count_once",
            )
        ]

    def __str__(self) -> str:
        return f"{self.measure} {self.value:g}"


class CountedLog(models.Model):
    """How far a stream of the log was looked through for what changes a week."""

    stream = models.CharField(max_length=20, unique=True)
    last_id = models.BigIntegerField(default=0)

    def __str__(self) -> str:
        return f"{self.stream} {self.last_id}"
