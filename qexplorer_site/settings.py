"""All settings, every one driven by the environment and described in docs/operations.md."""

from pathlib import Path

from csp.constants import NONE, SELF
from django.core.exceptions import ImproperlyConfigured

from qexplorer_site.env import database_from_url, env_bool, env_float, env_int, env_json, env_list, env_str
from qexplorer_site.queue_server import socket_url

BASE_DIR = Path(__file__).resolve().parent.parent
VAR_DIR = Path(env_str("QX_VAR_DIR", str(BASE_DIR / "var"))).resolve()
VAR_DIR.mkdir(parents=True, exist_ok=True)

DEBUG = env_bool("QX_DEBUG", default=False)
SECRET_KEY = env_str("QX_SECRET_KEY")
if not SECRET_KEY:
    raise ImproperlyConfigured("QX_SECRET_KEY is not set. `./qexplorer` makes one and keeps it in var/secret_key.")
# Pseudonyms of exports: a secret of their own, so that a new secret key does not change them.
PSEUDONYM_SECRET_IS_DERIVED = not env_str("QX_PSEUDONYM_SECRET")
PSEUDONYM_SECRET = env_str("QX_PSEUDONYM_SECRET") or SECRET_KEY[::-1]
ALLOWED_HOSTS = env_list("QX_ALLOWED_HOSTS", "localhost,127.0.0.1,[::1]")
HTTPS = env_bool("QX_HTTPS", default=False)
HOST = env_str("QX_HOST", "127.0.0.1")
IS_LOCAL = HOST in {"127.0.0.1", "localhost", "::1"}
# Demo logins have known passwords: they open only where the starter said so, on this machine, with no proxy in front.
IS_PRIVATE = IS_LOCAL and not HTTPS and set(ALLOWED_HOSTS) <= {"localhost", "127.0.0.1", "[::1]"}
DEMO = env_bool("QX_DEMO", default=False)
DEMO_LOGINS = DEMO and IS_PRIVATE
CSRF_TRUSTED_ORIGINS = env_list("QX_CSRF_TRUSTED_ORIGINS")

INSTALLED_APPS = [
    "qexplorer_site.apps.SiteConfig",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "django.contrib.humanize",
    "django_htmx",
    "django_rq",
    "axes",
    "csp",
    "rest_framework",
    "rest_framework_api_key",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "extraction.apps.ExtractionConfig",
    "training.apps.TrainingConfig",
    "audit.apps.AuditConfig",  # last: after every migrate it hands out the permissions that the others created
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "csp.middleware.CSPMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "axes.middleware.AxesMiddleware",
]

ROOT_URLCONF = "qexplorer_site.urls"
WSGI_APPLICATION = "qexplorer_site.wsgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "csp.context_processors.nonce",
            ],
        },
    },
]

# WAL with IMMEDIATE transactions: the only SQLite mode without "database is locked" under web + workers.
# ATOMIC_REQUESTS stays off, else every GET would take the write lock.
DATABASE_URL = env_str("DATABASE_URL")
DATABASES: dict[str, dict[str, object]] = {
    "default": database_from_url("DATABASE_URL", DATABASE_URL)
    if DATABASE_URL
    else {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": VAR_DIR / "db.sqlite3",
        "OPTIONS": {
            "transaction_mode": "IMMEDIATE",
            "timeout": 20,
            "init_command": "PRAGMA journal_mode=WAL;PRAGMA synchronous=NORMAL;PRAGMA busy_timeout=20000;"
            "PRAGMA cache_size=-65536;PRAGMA mmap_size=134217728;",
        },
        # A file, so that tests can start processes and threads that see it.
        "TEST": {"NAME": VAR_DIR / "test.sqlite3"},
    }
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

AUTHENTICATION_BACKENDS = ["axes.backends.AxesStandaloneBackend", "qexplorer_site.demo.SiteBackend"]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator"},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {"NAME": "django.contrib.auth.password_validation.NumericPasswordValidator"},
]
AXES_FAILURE_LIMIT = env_int("QX_LOGIN_ATTEMPTS", 10, low=1, high=1000)
AXES_COOLOFF_TIME = env_float("QX_LOGIN_COOLOFF_HOURS", 0.25, low=0.01, high=240)
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"]]
AXES_RESET_ON_SUCCESS = True
AXES_VERBOSE = False
AXES_LOCKOUT_TEMPLATE = "429.html"
LOGIN_URL = "login"
LOGIN_REDIRECT_URL = "audit:queue"
LOGOUT_REDIRECT_URL = "login"

SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = HTTPS
SESSION_COOKIE_HTTPONLY = True
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if HTTPS else None
SECURE_HSTS_SECONDS = 31536000 if HTTPS else 0
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [NONE],
        "script-src": [SELF],
        "style-src": [SELF],
        "img-src": [SELF, "data:"],
        "font-src": [SELF],
        "connect-src": [SELF],
        "form-action": [SELF],
        "base-uri": [NONE],
        "frame-ancestors": [NONE],
    }
}

LANGUAGE_CODE = "en"
LANGUAGES = [("en", "English"), ("zh-hans", "简体中文")]
LOCALE_PATHS = [BASE_DIR / "audit" / "locale"]
USE_I18N = True
FORMAT_MODULE_PATH = "audit.formats"
USE_TZ = True
TIME_ZONE = env_str("QX_TIME_ZONE", "UTC")

STATIC_URL = "static/"
STATIC_ROOT = VAR_DIR / "staticfiles"
STATICFILES_DIRS = [BASE_DIR / "static"]
MEDIA_ROOT = VAR_DIR / "media"
ARTIFACT_CACHE = VAR_DIR / "cache" / "artifacts"
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {
        "BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"
        if env_bool("QX_STATIC_MANIFEST", default=not DEBUG)
        else "django.contrib.staticfiles.storage.StaticFilesStorage"
    },
}

# The embedded queue server's socket, unless a server is named; the supervisor starts it.
REDIS_URL = env_str("REDIS_URL") or socket_url(VAR_DIR)
RQ_QUEUES = {
    name: {"URL": REDIS_URL, "DEFAULT_TIMEOUT": timeout}
    for name, timeout in {"default": 300, "explore": 600, "data": 3600, "suggest": 600, "train": -1}.items()
}
RQ = {"COMMIT_MODE": "on_db_commit"}

# Search: Elasticsearch where an address is given, else SQLite FTS5 in its own file.
ELASTICSEARCH_URL = env_str("ELASTICSEARCH_URL")
ELASTICSEARCH_API_KEY = env_str("ELASTICSEARCH_API_KEY")
ELASTICSEARCH_CA_CERTS = env_str("ELASTICSEARCH_CA_CERTS")
SEARCH_INDEX = env_str("QX_SEARCH_INDEX", "qx-items")
SEARCH_ATTACH = env_json("QX_SEARCH_ATTACH")
SEARCH_FILE = VAR_DIR / "search.sqlite3"
FOLDS_FILE = env_str("QX_FOLDS_FILE")

# A server of the operator's own that speaks OpenAI's protocol; without one the worker `suggester` holds the model.
LLM_URL = env_str("QX_LLM_URL")
LLM_KEY = env_str("QX_LLM_KEY")
LLM_MODEL = env_str("QX_LLM_MODEL")
LLM_ALLOWED_HOSTS = env_list("QX_LLM_ALLOW_HOST")

CLAIM_LEASE_MINUTES = env_int("QX_CLAIM_LEASE_MINUTES", 10, low=1, high=480)
PAGE_SIZE = env_int("QX_PAGE_SIZE", 50, low=10, high=200)
RUN_KEEP = env_int("QX_RUN_KEEP", 1000, low=100, high=10000)
# Trainings on several cards: a configuration file of `accelerate` (docs/accelerate has examples).
ACCELERATE_CONFIG = Path(env_str("QX_ACCELERATE_CONFIG")).resolve() if env_str("QX_ACCELERATE_CONFIG") else None
MAX_SUGGESTIONS = env_int("QX_MAX_SUGGESTIONS", 8, low=1, high=40)
REFIT_EVERY = env_int("QX_REFIT_EVERY", 200, low=10, high=100000)
EXPORT_DAYS = env_int("QX_EXPORT_DAYS", 7, low=1, high=365)
NIGHTLY_HOUR = env_int("QX_NIGHTLY_HOUR", 3, low=0, high=23)

REST_FRAMEWORK = {
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["rest_framework.parsers.JSONParser"],
    "DEFAULT_AUTHENTICATION_CLASSES": [],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAdminUser"],
}
SPECTACULAR_SETTINGS = {
    "TITLE": "QExplorer API",
    "VERSION": "1",
    "SERVE_INCLUDE_SCHEMA": False,
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
}

LOG_LEVEL = env_str("QX_LOG_LEVEL", "INFO")
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "{asctime} {levelname} {name} {message}", "style": "{"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["stderr"], "level": LOG_LEVEL},
    # Its lines, one for each request to the engine, are kept for DEBUG.
    "loggers": {"elastic_transport.transport": {"level": "WARNING" if LOG_LEVEL != "DEBUG" else "DEBUG"}},
}
