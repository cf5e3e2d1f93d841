import pytest

from qexplorer_site import checks


@pytest.fixture
def bound_elsewhere(settings):
    settings.HOST = "0.0.0.0"  # noqa: S104 - the mistake under test
    settings.IS_LOCAL = False


def ids(messages):
    return [message.id for message in messages]


def test_demo_bound_elsewhere_is_an_error(settings, bound_elsewhere):
    settings.DEMO = True
    (message,) = checks.check_demo_stays_local(None)
    assert message.id == "qexplorer.E001"
    assert "127.0.0.1" in message.hint


def test_demo_on_this_machine_is_fine(settings):
    settings.DEMO = True
    assert not checks.check_demo_stays_local(None)


def test_debug_bound_elsewhere_is_an_error(settings, bound_elsewhere):
    settings.DEBUG = True
    assert ids(checks.check_debug_stays_local(None)) == ["qexplorer.E002"]


def test_https_without_origins_is_a_warning(settings):
    settings.HTTPS = True
    settings.CSRF_TRUSTED_ORIGINS = []
    assert ids(checks.check_https_has_origins(None)) == ["qexplorer.W001"]
    settings.CSRF_TRUSTED_ORIGINS = ["https://qexplorer.example.org"]
    assert not checks.check_https_has_origins(None)


def test_bound_elsewhere_with_local_names_only_is_a_warning(settings, bound_elsewhere):
    settings.ALLOWED_HOSTS = ["localhost", "127.0.0.1"]
    assert ids(checks.check_hosts_match_binding(None)) == ["qexplorer.W002"]
    settings.ALLOWED_HOSTS = ["qexplorer.example.org"]
    assert not checks.check_hosts_match_binding(None)


def test_pseudonyms_on_the_secret_key_are_a_warning_on_a_real_site(settings, bound_elsewhere):
    settings.PSEUDONYM_SECRET_IS_DERIVED = True
    assert ids(checks.check_pseudonym_secret(None)) == ["qexplorer.W003"]


def test_unreadable_folds_are_an_error(settings, tmp_path):
    settings.FOLDS_FILE = str(tmp_path / "folds.json")
    assert ids(checks.check_folds(None)) == ["qexplorer.E003"]
    (tmp_path / "folds.json").write_text('{"ab": "c"}')
    assert ids(checks.check_folds(None)) == ["qexplorer.E003"]
    (tmp_path / "folds.json").write_text('{"薇": "微"}')
    assert not checks.check_folds(None)


def test_attachment_without_a_cluster_is_an_error(settings):
    settings.SEARCH_ATTACH = {"index": "posts", "text": "body", "time": "at"}
    settings.ELASTICSEARCH_URL = ""
    assert ids(checks.check_attachment_has_a_cluster(None)) == ["qexplorer.E004"]
    settings.ELASTICSEARCH_URL = "http://127.0.0.1:9200"
    assert not checks.check_attachment_has_a_cluster(None)
