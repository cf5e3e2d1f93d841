"""The three roles as groups with permissions, kept in step after every migrate."""

from typing import Any

from django.contrib.auth.models import Group, Permission

AUDITOR = "auditor"
ADMIN = "admin"
RESEARCHER = "researcher"

# The admin role works in the Django admin: the user is also marked as staff.
ROLES: dict[str, tuple[str, ...]] = {
    AUDITOR: ("work_reports", "read_insights"),
    RESEARCHER: ("export_logs", "read_insights"),
    ADMIN: ("work_reports", "read_insights", "export_logs", "export_unmasked", "load_data", "manage_learning"),
}

# What the admin role may edit in the Django admin. History is read-only there: view alone.
ADMIN_EDITS = (
    ("audit", "policy"),
    ("audit", "policyversion"),
    ("audit", "sitesettings"),
    ("audit", "suggesterswitch"),
    ("audit", "apikey"),
    ("audit", "webhookendpoint"),
    ("auth", "user"),
)


def sync_roles(**kwargs: Any) -> None:
    """Create the groups and give each exactly its permissions (a `post_migrate` receiver)."""
    for name, codenames in ROLES.items():
        group, _created = Group.objects.get_or_create(name=name)
        permissions = list(Permission.objects.filter(content_type__app_label="audit", codename__in=codenames))
        if name == ADMIN:
            permissions += Permission.objects.filter(
                content_type__app_label__in=["audit", "extraction", "training"], codename__startswith="view_"
            )
            for app_label, model in ADMIN_EDITS:
                permissions += Permission.objects.filter(
                    content_type__app_label=app_label, content_type__model=model
                ).exclude(codename__startswith="delete_")
        group.permissions.set(permissions)
