from django.db import migrations

from audit.append_only import AppendOnly

APPEND_ONLY = ["training.Refusal"]


class Migration(migrations.Migration):
    dependencies = [("training", "0001_initial"), ("audit", "0002_append_only")]
    operations = [AppendOnly(model) for model in APPEND_ONLY]
