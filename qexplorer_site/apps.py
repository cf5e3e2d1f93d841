from django.apps import AppConfig


class SiteConfig(AppConfig):
    """The wiring: it holds no rows, only system checks."""

    name = "qexplorer_site"

    def ready(self) -> None:
        from qexplorer_site import checks  # noqa: F401  (importing registers them)
