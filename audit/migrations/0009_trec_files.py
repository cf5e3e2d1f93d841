from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("audit", "0008_append_only_again"),
    ]

    operations = [
        migrations.AlterField(
            model_name="export",
            name="format",
            field=models.CharField(
                choices=[
                    ("jsonl", "JSONL"),
                    ("csv", "CSV"),
                    ("parquet", "Parquet"),
                    ("trec", "TREC"),
                    ("md", "Markdown"),
                ],
                max_length=7,
            ),
        ),
    ]
