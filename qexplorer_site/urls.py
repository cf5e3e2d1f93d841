from django.contrib import admin
from django.contrib.auth.views import LogoutView
from django.urls import include, path
from django.views.i18n import set_language

from audit.api_urls import api_urlpatterns
from audit.views.account import SignIn
from qexplorer_site import health

urlpatterns = [
    path("admin/learning/", include("training.urls")),  # before the admin, which answers everything below its address
    path("admin/", admin.site.urls),
    path("login/", SignIn.as_view(), name="login"),
    path("logout/", LogoutView.as_view(), name="logout"),
    path("language/", set_language, name="language"),
    path("api/v1/", include(api_urlpatterns)),
    path("healthz/live", health.live, name="healthz-live"),
    path("healthz/ready", health.ready, name="healthz-ready"),
    path("", include("audit.urls")),
]
