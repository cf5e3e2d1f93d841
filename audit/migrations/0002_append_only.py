from django.db import migrations

from audit.append_only import AppendOnly

APPEND_ONLY = [
    "audit.PolicyVersion",
    "audit.ItemText",
    "audit.Complaint",
    "audit.ReportEvent",
    "audit.SuggestionBatch",
    "audit.Suggestion",
    "audit.Decision",
    "audit.QueryRun",
    "audit.Exposure",
    "audit.Judgment",
    "audit.Removal",
    "audit.OutboxEvent",
    "audit.OutboxPublication",
    "audit.RecordedRequest",
    "extraction.RiskPromotion",
]


class Migration(migrations.Migration):
    dependencies = [("audit", "0001_initial"), ("extraction", "0001_initial")]
    operations = [AppendOnly(model) for model in APPEND_ONLY]
