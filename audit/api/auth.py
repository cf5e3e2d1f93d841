"""Who calls: a key of the platform's (hashed, scoped, revocable), and what it opens."""

from typing import Any, cast

from django.contrib.auth.models import AnonymousUser
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import AuthenticationFailed, NotAuthenticated
from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.views import APIView
from rest_framework_api_key.permissions import KeyParser

from audit.models import ApiKey


class ApiKeyAuthentication(BaseAuthentication):
    """`Authorization: Api-Key …`. Nothing at all, or a key that opens nothing, is a 401 that says which of the two."""

    def authenticate(self, request: Request) -> tuple[AnonymousUser, ApiKey]:
        key = KeyParser().get(request)
        if not key:
            raise NotAuthenticated(_("Send your key in the header: Authorization: Api-Key …"))
        return AnonymousUser(), usable_key(key)

    def authenticate_header(self, request: Request) -> str:
        return 'Api-Key realm="QExplorer"'


def usable_key(key: str) -> ApiKey:
    """The row of a key. Raises AuthenticationFailed."""
    if not (key.isascii() and key.isprintable()):
        raise AuthenticationFailed(_("This key is not known, or was revoked."))
    try:
        row = cast(ApiKey, ApiKey.objects.get_from_key(key))
    except ApiKey.DoesNotExist:
        raise AuthenticationFailed(_("This key is not known, or was revoked.")) from None
    if row.has_expired:
        raise AuthenticationFailed(_("This key has expired."))
    return row


class _Scope(BasePermission):
    """The key of the request must have this scope."""

    scope = ""

    def has_permission(self, request: Request, view: APIView) -> bool:
        return isinstance(request.auth, ApiKey) and bool(getattr(request.auth, self.scope))


class MayWriteItems(_Scope):
    scope = "can_write_items"
    message = gettext_lazy("This key may not write items.")


class MayWriteComplaints(_Scope):
    scope = "can_write_complaints"
    message = gettext_lazy("This key may not write complaints.")


class MayReadVerdicts(_Scope):
    scope = "can_read_verdicts"
    message = gettext_lazy("This key may not read verdicts.")


class ApiKeyScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]  # the library's registration hook
    """How the API page describes the key."""

    target_class = ApiKeyAuthentication
    name = "ApiKey"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        return {"type": "apiKey", "in": "header", "name": "Authorization", "description": "`Api-Key ` and the key."}
