from django.apps import AppConfig


class TrainingConfig(AppConfig):
    name = "training"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from audit.logs import register  # noqa: PLC0415  (models are only ready now)
        from training.exports import STREAMS  # noqa: PLC0415  (likewise)

        register(*STREAMS)
