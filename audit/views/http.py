"""What the views share: who may ask, fragment or page, and how a refusal is answered."""

from collections.abc import Callable
from functools import update_wrapper
from typing import Any, Concatenate, ParamSpec
from urllib.parse import urlsplit

from django.conf import settings
from django.contrib.auth.models import User
from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseRedirectBase
from django.shortcuts import resolve_url
from django.template.loader import render_to_string
from django.utils.cache import patch_vary_headers
from django.views.decorators.cache import never_cache
from django_htmx.http import HttpResponseClientRedirect
from django_htmx.middleware import HtmxDetails

from audit.services.errors import Invalid, ServiceError

P = ParamSpec("P")


class RoleRequest(HttpRequest):
    """A request of a person who is signed in and may do what the view does."""

    user: User
    htmx: HtmxDetails


RoleView = Callable[Concatenate[RoleRequest, P], HttpResponse]


class HttpResponseSeeOther(HttpResponseRedirectBase):
    """The answer to a form that was sent without script: look at the page again (by GET)."""

    status_code = 303


def role_required(permission: str) -> Callable[[RoleView[P]], Callable[Concatenate[HttpRequest, P], HttpResponse]]:
    """Let in who holds `permission` of this app. A stranger is sent to sign in, anyone else gets 403.

    Pages show texts of people, so no answer may be kept by a cache; one address answers htmx with a fragment.
    """

    def decorate(view: RoleView[P]) -> Callable[Concatenate[HttpRequest, P], HttpResponse]:
        def guarded(request: HttpRequest, /, *args: P.args, **kwargs: P.kwargs) -> HttpResponse:
            if not request.user.is_authenticated:
                return _to_login(request)
            if not request.user.has_perm(f"audit.{permission}"):
                raise PermissionDenied
            response = view(request, *args, **kwargs)  # type: ignore[arg-type]  # narrowed by the two checks above
            patch_vary_headers(response, ["HX-Request"])
            return response

        update_wrapper(guarded, view)
        return never_cache(guarded)

    return decorate


def wants_fragment(request: HttpRequest) -> bool:
    """True where htmx swaps a part of the page, and not a whole page of its history."""
    htmx: HtmxDetails = request.htmx  # type: ignore[attr-defined]  # set by HtmxMiddleware
    return bool(htmx) and not htmx.boosted and not htmx.history_restore_request


def status_of(error: ServiceError) -> int:
    """422 where the input cannot be used, 409 where the state has changed meanwhile."""
    return 422 if isinstance(error, Invalid) else 409


def see_other(to: Any, *args: Any, query: str = "", anchor: str = "") -> HttpResponse:
    """Send the browser to a page of ours (303), at the row `anchor` where one is named."""
    address = resolve_url(to, *args) + (f"?{query}" if query else "") + (f"#{anchor}" if anchor else "")
    return HttpResponseSeeOther(address)


def comes_from_history(request: HttpRequest) -> bool:
    """True for an undo that was pressed in the history, which is then shown again."""
    return request.POST.get("from") == "history"


def fragments(request: HttpRequest, templates: list[str], context: dict[str, Any], status: int = 200) -> HttpResponse:
    """Render fragments one after the other: the first is the target of the swap, the others swap out of band."""
    parts = [
        render_to_string(template, {**context, "oob": index > 0}, request=request)
        for index, template in enumerate(templates)
    ]
    return HttpResponse("".join(parts), status=status)


def _to_login(request: HttpRequest) -> HttpResponse:
    """To the sign-in page and back. A fragment cannot hold that page, so htmx is told to leave for it."""
    if wants_fragment(request):
        came_from = urlsplit(request.headers.get("HX-Current-URL", ""))
        back = came_from.path or resolve_url(settings.LOGIN_REDIRECT_URL)
        return HttpResponseClientRedirect(redirect_to_login(back).url)
    back = request.get_full_path() if request.method == "GET" else resolve_url(settings.LOGIN_REDIRECT_URL)
    return redirect_to_login(back)
