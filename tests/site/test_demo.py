"""Demo logins are refused when bound elsewhere or without the starter's word."""

import os
import subprocess
import sys

import pytest
from django.contrib.auth.models import Group
from django.test import RequestFactory

from qexplorer_site.demo import DEMO_GROUP, SiteBackend


@pytest.fixture
def demo_user(auditor):
    auditor.groups.add(Group.objects.get_or_create(name=DEMO_GROUP)[0])
    return auditor


@pytest.fixture
def authenticate(password):
    return lambda user: SiteBackend().authenticate(
        RequestFactory().post("/login/"), username=user.username, password=password
    )


def test_demo_login_is_refused_by_default(demo_user, authenticate):
    assert authenticate(demo_user) is None


def test_demo_login_opens_a_demonstration(demo_user, authenticate, settings):
    settings.DEMO_LOGINS = True
    assert authenticate(demo_user) == demo_user


def test_open_session_of_a_demo_login_ends(demo_user, settings):
    backend = SiteBackend()
    assert backend.get_user(demo_user.pk) is None
    settings.DEMO_LOGINS = True
    assert backend.get_user(demo_user.pk) == demo_user


def test_other_logins_are_as_always(auditor, authenticate):
    assert authenticate(auditor) == auditor
    assert SiteBackend().get_user(auditor.pk) == auditor


def test_refusal_costs_no_second_query(auditor, django_assert_num_queries):
    with django_assert_num_queries(1):
        SiteBackend().get_user(auditor.pk)


@pytest.mark.parametrize(
    ("demo", "host", "opens"), [("1", "127.0.0.1", True), ("1", "192.0.2.1", False), ("0", "127.0.0.1", False)]
)
def test_settings_open_demo_logins_only_on_this_machine(demo, host, opens):
    code = "import qexplorer_site.settings as s; print(s.DEMO_LOGINS)"
    said = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"QX_DEMO": demo, "QX_HOST": host},
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout.strip() == str(opens)
