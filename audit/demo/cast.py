"""The people of the demo and their one password, which opens nothing but a demonstration on this machine."""

from dataclasses import dataclass

from django.contrib.auth.hashers import make_password
from django.contrib.auth.models import Group, User

from audit.roles import ADMIN, AUDITOR, RESEARCHER

DEMO_GROUP = "demo"
PASSWORD = "qexplorer-demo"  # noqa: S105  (known to everyone; the site refuses it anywhere but on this machine)

# Login name → role.
LOGINS: dict[str, str] = {"auditor": AUDITOR, "auditor2": AUDITOR, "admin": ADMIN, "researcher": RESEARCHER}


class NameTaken(Exception):
    """A login of the demo's names exists and is somebody's own."""


@dataclass(frozen=True)
class Cast:
    """The demo's people; the two auditors did the work of the past month."""

    auditors: tuple[User, User]
    admin: User


def make_cast() -> Cast:
    """Create the logins, or find them. Raises NameTaken where a name belongs to a login that is not of the demo."""
    demo, _created = Group.objects.get_or_create(name=DEMO_GROUP)
    password = make_password(PASSWORD)  # one hash for all: each takes a good part of a second
    people = {name: _person(name, role, demo, password) for name, role in LOGINS.items()}
    return Cast(auditors=(people["auditor"], people["auditor2"]), admin=people["admin"])


def login_lines() -> str:
    """The logins as a person reads them, one a line."""
    return "".join(f"{name:<10} / {PASSWORD}\n" for name in LOGINS)


def _person(name: str, role: str, demo: Group, password: str) -> User:
    user, created = User.objects.get_or_create(
        username=name, defaults={"password": password, "is_staff": role == ADMIN}
    )
    if created:
        user.groups.set([demo, Group.objects.get(name=role)])
    elif not user.groups.filter(pk=demo.pk).exists():
        raise NameTaken(name)
    return user
