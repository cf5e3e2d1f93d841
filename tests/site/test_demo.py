"""Demo logins are refused when bound elsewhere or without the starter's word."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from django.contrib.auth.models import Group
from django.test import RequestFactory

from qexplorer_site.demo import DEMO_GROUP, SiteBackend

ROOT = Path(__file__).resolve().parents[2]


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
    ("environment", "opens"),
    [
        ({"QX_DEMO": "1"}, True),
        ({"QX_DEMO": "0"}, False),
        ({}, False),
        ({"QX_DEMO": "1", "QX_HOST": "192.0.2.1"}, False),
        ({"QX_DEMO": "1", "QX_HTTPS": "1"}, False),
        ({"QX_DEMO": "1", "QX_ALLOWED_HOSTS": "qexplorer.example.org"}, False),
    ],
)
def test_settings_open_demo_logins_only_on_this_machine(environment, opens):
    code = "import qexplorer_site.settings as s; print(s.DEMO_LOGINS)"
    command = [sys.executable, "-c", code]
    said = subprocess.run(command, env=os.environ | environment, cwd=ROOT, capture_output=True, text=True, check=True)
    assert said.stdout.strip() == str(opens)
