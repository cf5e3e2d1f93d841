"""The addresses of the API; the site includes `api_urlpatterns` under api/v1/."""

from django.urls import path
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerSplitView
from rest_framework.permissions import AllowAny

from audit.api import views

# The page and its schema describe the API and show no data: they need no login. The page brings no inline script or
# style, so that it works under the site's content security policy.
api_urlpatterns = [
    path("items", views.write_items, name="api-items"),
    path("items/gone", views.items_gone, name="api-items-gone"),
    path("complaints", views.write_complaints, name="api-complaints"),
    path("verdicts", views.read_verdicts, name="api-verdicts"),
    path("schema", SpectacularAPIView.as_view(permission_classes=[AllowAny]), name="api-schema"),
    path(
        "",
        SpectacularSwaggerSplitView.as_view(
            url_name="api-schema", template_name="audit/api.html", permission_classes=[AllowAny]
        ),
        name="api-page",
    ),
]
