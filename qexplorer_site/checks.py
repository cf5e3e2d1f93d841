"""Settings that cannot work together. No check asks a running service: that is what /healthz/ready is for."""

from collections.abc import Sequence

from django.apps.config import AppConfig
from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register

from extraction.text import get_analysis

_LOCAL_NAMES = {"localhost", "127.0.0.1", "[::1]", "testserver"}


@register(Tags.security)
def check_demo_stays_local(app_configs: Sequence[AppConfig] | None, **kwargs: object) -> list[CheckMessage]:
    if settings.DEMO and not settings.IS_LOCAL:
        hint = "Unset QX_DEMO, or bind to 127.0.0.1. Demo logins stay refused until then."
        return [Error(f"QX_DEMO=1 while bound to {settings.HOST}.", hint=hint, id="qexplorer.E001")]
    return []


@register(Tags.security)
def check_debug_stays_local(app_configs: Sequence[AppConfig] | None, **kwargs: object) -> list[CheckMessage]:
    if settings.DEBUG and not settings.IS_LOCAL:
        hint = "Unset QX_DEBUG: its error pages show settings and texts to anyone."
        return [Error(f"QX_DEBUG=1 while bound to {settings.HOST}.", hint=hint, id="qexplorer.E002")]
    return []


@register(Tags.security)
def check_https_has_origins(app_configs: Sequence[AppConfig] | None, **kwargs: object) -> list[CheckMessage]:
    if settings.HTTPS and not settings.CSRF_TRUSTED_ORIGINS:
        hint = "Set QX_CSRF_TRUSTED_ORIGINS to the address that people type, e.g. https://qexplorer.example.org."
        return [Warning("QX_HTTPS=1 without trusted origins: forms may be refused.", hint=hint, id="qexplorer.W001")]
    return []


@register(Tags.security)
def check_hosts_match_binding(app_configs: Sequence[AppConfig] | None, **kwargs: object) -> list[CheckMessage]:
    if not settings.IS_LOCAL and set(settings.ALLOWED_HOSTS) <= _LOCAL_NAMES:
        hint = "Set QX_ALLOWED_HOSTS to the names that people type."
        return [Warning(f"Bound to {settings.HOST}, answers only localhost.", hint=hint, id="qexplorer.W002")]
    return []


@register(Tags.security)
def check_pseudonym_secret(app_configs: Sequence[AppConfig] | None, **kwargs: object) -> list[CheckMessage]:
    if settings.PSEUDONYM_SECRET_IS_DERIVED and not settings.IS_LOCAL:
        hint = "Set QX_PSEUDONYM_SECRET (or …_FILE): then pseudonyms stay the same when the secret key changes."
        return [Warning("Pseudonyms hang on the secret key.", hint=hint, id="qexplorer.W003")]
    return []


@register(Tags.compatibility)
def check_folds(app_configs: Sequence[AppConfig] | None, **kwargs: object) -> list[CheckMessage]:
    try:
        get_analysis()
    except (OSError, ValueError) as error:
        hint = "Mend the file, or unset QX_FOLDS_FILE. docs/search.md shows its form."
        return [Error(f"QX_FOLDS_FILE cannot be used: {error}", hint=hint, id="qexplorer.E003")]
    return []


@register(Tags.compatibility)
def check_attachment_has_a_cluster(app_configs: Sequence[AppConfig] | None, **kwargs: object) -> list[CheckMessage]:
    if settings.SEARCH_ATTACH and not settings.ELASTICSEARCH_URL:
        hint = "Set ELASTICSEARCH_URL to the platform's cluster, or unset QX_SEARCH_ATTACH."
        return [Error("QX_SEARCH_ATTACH names an index and no cluster.", hint=hint, id="qexplorer.E004")]
    return []
