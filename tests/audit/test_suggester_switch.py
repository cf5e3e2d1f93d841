import pytest
from django.db import IntegrityError

from audit.models import Policy, SuggesterSwitch

pytestmark = pytest.mark.django_db


def test_site_has_one_switch_for_a_suggester():
    SuggesterSwitch.objects.create(suggester="search")
    with pytest.raises(IntegrityError):
        SuggesterSwitch.objects.create(suggester="search", is_on=False)


def test_policy_has_one_switch_for_a_suggester():
    policy = Policy.objects.create(key="fraud", name="Fraud")
    SuggesterSwitch.objects.create(suggester="search", policy=policy)
    with pytest.raises(IntegrityError):
        SuggesterSwitch.objects.create(suggester="search", policy=policy)


def test_policies_and_the_site_switch_apart():
    for policy in (None, Policy.objects.create(key="a", name="A"), Policy.objects.create(key="b", name="B")):
        SuggesterSwitch.objects.create(suggester="search", policy=policy)
    assert SuggesterSwitch.objects.count() == 3
