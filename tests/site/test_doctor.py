import io
import os
from types import SimpleNamespace

import pytest
from django.contrib.auth.models import Group
from django.core.checks import Warning as CheckWarning

from extraction.models import BaseModel
from qexplorer_site import doctor
from qexplorer_site.demo import DEMO_GROUP
from qexplorer_site.health import Finding, State
from tests.extraction.adapters import stored_adapter
from tests.factories import make_promotion
from tests.tiny import need_learning_stack

pytestmark = pytest.mark.django_db


def report_of(monkeypatch, *findings):
    monkeypatch.setattr(doctor, "PROBES", tuple(lambda finding=finding: finding for finding in findings))
    out = io.StringIO()
    return doctor.report(out), out.getvalue()


def test_each_line_that_is_not_well_says_what_to_do(monkeypatch):
    code, text = report_of(
        monkeypatch,
        Finding("disk", State.WARNING, "1.0 GB free", "Make room."),
        Finding("queue", State.FAILED, "cannot be reached", "Start it."),
    )
    assert "→ Make room." in text
    assert "→ Start it." in text
    assert code == 1


def test_a_warning_alone_is_no_failure(monkeypatch):
    assert report_of(monkeypatch, Finding("disk", State.WARNING, "1.0 GB free", "Make room."))[0] == 0


def test_system_checks_are_part_of_it(monkeypatch):
    warning = CheckWarning("Something.", hint="Do this.", id="qexplorer.W999")
    monkeypatch.setattr(doctor, "run_checks", lambda: [warning])
    text = report_of(monkeypatch)[1]
    assert "qexplorer.W999" in text
    assert "→ Do this." in text


def test_every_part_of_the_issue_is_checked():
    names = {probe().name for probe in doctor.PROBES}
    assert names >= {
        "database", "journal", "migrations", "full text", "search", "index", "queue", "workers", "disk", "secrets",
        "CSRF origins", "demo logins", "learning stack", "suggester", "adapters", "readiness",
    }  # fmt: skip


def test_every_failure_has_a_remedy(settings, tmp_path):
    settings.REDIS_URL = f"unix://{tmp_path / 'nobody.sock'}"
    for finding in (probe() for probe in doctor.PROBES):
        assert finding.state is State.OK or finding.remedy


def test_demo_logins_of_a_real_site_are_named(auditor, settings):
    settings.IS_PRIVATE = False
    auditor.groups.add(Group.objects.get_or_create(name=DEMO_GROUP)[0])
    finding = doctor.demo_logins()
    assert (finding.state, finding.says) == (State.WARNING, "1 on a site that others can reach")


def test_readable_secret_is_a_failure(settings, tmp_path):
    settings.VAR_DIR = tmp_path
    (tmp_path / "secret_key").touch(mode=0o600)
    assert doctor.secret_files().state is State.OK
    os.chmod(tmp_path / "secret_key", 0o644)  # noqa: PTH101 - as an operator would
    assert doctor.secret_files().state is State.FAILED


def test_full_disk_is_a_failure(monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=10**8))
    assert doctor.disk().state is State.FAILED


def test_plain_origin_behind_https_is_a_warning(settings):
    settings.HTTPS = True
    settings.CSRF_TRUSTED_ORIGINS = ["http://qexplorer.example.org"]
    assert doctor.csrf_origins().state is State.WARNING


def test_an_adapter_of_another_tokenizer_is_a_warning(settings, tmp_path):
    settings.MEDIA_ROOT, settings.ARTIFACT_CACHE = tmp_path / "media", tmp_path / "cache"
    need_learning_stack()
    adapter = stored_adapter(tmp_path, name="dpo-14")
    make_promotion(adapter=adapter)
    assert doctor.adapters().state is State.OK
    BaseModel.objects.update(tokenizer_hash="another")
    finding = doctor.adapters()
    assert finding.state is State.WARNING
    assert finding.says.startswith("dpo-14 is refused: ")
    assert finding.remedy


def test_the_share_of_prepared_reports_has_its_count():
    assert doctor.readiness().says == (
        "0 of 0 reports opened this week or last had suggestions by then, 0 of a language model"
    )
