"""The API alone, as the site includes it."""

from django.urls import include, path

from audit.api_urls import api_urlpatterns

urlpatterns = [path("api/v1/", include(api_urlpatterns))]
