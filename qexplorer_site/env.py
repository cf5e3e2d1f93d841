"""Strict readers of the environment: a wrong word stops the start and names the variable."""

import json
import os
from pathlib import Path
from urllib.parse import unquote, urlsplit

from django.core.exceptions import ImproperlyConfigured

_TRUE = {"1", "true", "yes", "on"}
_FALSE = {"0", "false", "no", "off", ""}


def env_str(name: str, default: str = "") -> str:
    """Value of `name`; where `name`_FILE is set instead, the content of that file (for secrets)."""
    path = os.environ.get(f"{name}_FILE")
    if path:
        try:
            return Path(path).read_text(encoding="utf-8").strip()
        except OSError as error:
            raise ImproperlyConfigured(f"{name}_FILE: cannot read {path}: {error.strerror}.") from error
    return os.environ.get(name, default)


def env_bool(name: str, *, default: bool) -> bool:
    word = env_str(name, "1" if default else "0").strip().lower()
    if word in _TRUE:
        return True
    if word in _FALSE:
        return False
    raise ImproperlyConfigured(f"{name}={word!r}: write 1 or 0.")


def env_int(name: str, default: int, *, low: int, high: int) -> int:
    word = env_str(name, str(default))
    try:
        value = int(word)
    except ValueError:
        raise ImproperlyConfigured(f"{name}={word!r}: write a whole number.") from None
    if not low <= value <= high:
        raise ImproperlyConfigured(f"{name}={value}: write a number from {low} to {high}.")
    return value


def env_float(name: str, default: float, *, low: float, high: float) -> float:
    word = env_str(name, str(default))
    try:
        value = float(word)
    except ValueError:
        raise ImproperlyConfigured(f"{name}={word!r}: write a number.") from None
    if not low <= value <= high:
        raise ImproperlyConfigured(f"{name}={value}: write a number from {low} to {high}.")
    return value


def env_list(name: str, default: str = "") -> list[str]:
    return [part.strip() for part in env_str(name, default).split(",") if part.strip()]


def env_json(name: str) -> dict[str, object]:
    """A JSON object; {} where the variable is empty."""
    text = env_str(name)
    try:
        value = json.loads(text) if text else {}
    except ValueError as error:
        raise ImproperlyConfigured(f"{name}: this is no JSON ({error}).") from error
    if not isinstance(value, dict):
        raise ImproperlyConfigured(f'{name}: write a JSON object, like {{"index": …}}.')
    return value


def database_from_url(name: str, url: str) -> dict[str, object]:
    """Django's settings for a postgresql:// address (host or unix socket folder as ?host=…)."""
    parts = urlsplit(url)
    if parts.scheme not in {"postgresql", "postgres"}:
        raise ImproperlyConfigured(f"{name}: only postgresql:// addresses are known. Leave it empty for SQLite.")
    options = dict(pair.split("=", 1) for pair in parts.query.split("&") if "=" in pair)
    socket = unquote(options.pop("host", ""))
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": unquote(parts.path.lstrip("/")),
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
        "HOST": socket or parts.hostname or "",
        "PORT": str(parts.port or ""),
        "CONN_MAX_AGE": 60,
        "CONN_HEALTH_CHECKS": True,
        "OPTIONS": {key: unquote(value) for key, value in options.items()},
    }
