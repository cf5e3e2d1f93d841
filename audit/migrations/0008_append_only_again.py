from django.db import migrations

from audit.append_only import AppendOnly

# New tables, and those that the migration before this one made anew on SQLite, which loses their triggers.
APPEND_ONLY = [
    "audit.Generation",
    "audit.PoolItem",
    "extraction.AdapterPromotion",
    "audit.Suggestion",
    "audit.SuggestionBatch",
    "audit.Judgment",
]


class Migration(migrations.Migration):
    dependencies = [("audit", "0007_suggested_by_adapters"), ("extraction", "0002_adapters")]
    operations = [AppendOnly(model) for model in APPEND_ONLY]
