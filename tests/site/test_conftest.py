import pytest
from django.contrib.auth.models import Group
from django.db import connection, utils

from audit.models import MaintenancePass, Policy, PolicyVersion


@pytest.fixture
def version():
    policy = Policy.objects.create(key="p", name="P")
    return PolicyVersion.objects.create(policy=policy, number=1)


@pytest.mark.parametrize("turn", [1, 2])
@pytest.mark.django_db(transaction=True)
def test_transactional_test_leaves_no_append_only_row_behind(turn, version):
    assert PolicyVersion.objects.count() == 1
    assert not MaintenancePass.objects.exists()
    assert Group.objects.filter(name="auditor").exists()


@pytest.mark.django_db
def test_append_only_row_cannot_be_deleted_in_a_test(version):
    with pytest.raises(utils.IntegrityError, match="append-only"), connection.cursor() as cursor:
        cursor.execute("DELETE FROM audit_policyversion")


def test_cast_has_its_roles(auditor, admin, researcher, stranger):
    assert auditor.has_perm("audit.work_reports")
    assert researcher.has_perm("audit.export_logs")
    assert admin.has_perm("audit.load_data")
    assert not stranger.get_all_permissions()
