"""What the tests of the admin's pages of learning share: who looks, where things are stored, looking and pressing."""

import pytest
from django.urls import reverse

from tests.factories import (
    make_key,
)


@pytest.fixture(autouse=True)
def storage(settings, tmp_path):
    settings.MEDIA_ROOT = tmp_path / "storage"
    settings.ARTIFACT_CACHE = tmp_path / "cache"


@pytest.fixture
def client(login, admin):
    return login(admin)


def address(name, *args):
    return reverse(f"training:{name}", args=args)


def page(client, name="overview", *args, **query):
    answer = client.get(address(name, *args), query)
    assert answer.status_code == 200
    return answer.content.decode()


def press(client, what, *args, **data):
    return client.post(address(what, *args), {"key": make_key(), **data})
