"""Signing in, preferences, the list of keys."""

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.contrib.auth.views import LoginView
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render, resolve_url
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_POST

from audit.forms import PreferencesForm
from audit.keys import KEYS
from audit.models import UserPreferences
from audit.views.http import RoleRequest, see_other, wants_fragment


class SignIn(LoginView):
    """Signs in and leads each role to where it works. Attempts are limited by axes."""

    redirect_authenticated_user = True

    def get_default_redirect_url(self) -> str:
        return resolve_url("audit:home")


@never_cache
@login_required
@require_GET
def go_home(request: HttpRequest) -> HttpResponse:
    """The queue for auditors, exports for researchers; an account without a role is told so (403 there)."""
    user = request.user
    if not user.has_perm("audit.work_reports") and user.has_perm("audit.export_logs"):
        return redirect("audit:exports")
    return redirect("audit:queue")


@never_cache
@login_required
@require_POST
def save_preferences(request: RoleRequest) -> HttpResponse:
    """Theme, text size, letter keys: of this account, on every machine."""
    form = PreferencesForm(request.POST)
    back = request.POST.get("back", "")
    if not url_has_allowed_host_and_scheme(back, allowed_hosts={request.get_host()}):
        back = resolve_url("audit:home")
    if form.is_valid():
        UserPreferences.objects.update_or_create(user=request.user, defaults=form.cleaned_data)
        messages.info(request, _("Preferences saved."))
        return see_other(back)
    return render(request, "400.html", status=422)


@never_cache
@login_required
@require_GET
def show_keys(request: HttpRequest) -> HttpResponse:
    """All keys of these pages, as a page or in a sheet over the work."""
    template = "audit/_keys.html" if wants_fragment(request) else "audit/keys.html"
    return render(request, template, {"groups": KEYS})
