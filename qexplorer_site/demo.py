"""Demo logins have passwords that everyone knows: they open only a demonstration on this machine."""

from django.conf import settings
from django.contrib.auth.backends import ModelBackend
from django.contrib.auth.models import AnonymousUser, User

DEMO_GROUP = "demo"


class SiteBackend(ModelBackend):
    """Django's own backend, which knows no demo login unless `settings.DEMO_LOGINS`; open sessions end as well."""

    def user_can_authenticate(self, user: User | AnonymousUser | None) -> bool:
        if not super().user_can_authenticate(user) or user is None or user.pk is None:
            return False
        return settings.DEMO_LOGINS or not User.objects.filter(pk=user.pk, groups__name=DEMO_GROUP).exists()

    def get_user(self, user_id: int) -> User | None:
        # Asked on every request: the refusal is part of the one query.
        known = User.objects.filter(pk=user_id, is_active=True)
        if not settings.DEMO_LOGINS:
            known = known.exclude(groups__name=DEMO_GROUP)
        return known.first()
