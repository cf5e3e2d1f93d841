from django.apps import AppConfig
from django.db.models.signals import post_migrate


class AuditConfig(AppConfig):
    name = "audit"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from audit.attached import ItemRows  # noqa: PLC0415  (models are only ready now)
        from audit.roles import sync_roles  # noqa: PLC0415  (models are only ready now)
        from extraction.search.foreign import use_overlay  # noqa: PLC0415  (likewise)

        use_overlay(ItemRows())
        post_migrate.connect(sync_roles, sender=self, dispatch_uid="audit.sync_roles")
