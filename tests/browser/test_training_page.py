"""The page Training in a browser: launching with and without script, and a run's page that stops asking."""

import pytest

from tests.factories import make_base, make_evaluation_set, make_learning_run
from training.models import Run, RunState

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

PAGE = "/admin/learning/"


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("script", [True, False], ids=["with script", "without script"])
def test_a_launch_asks_once_and_then_runs(open_browser, admin, script):
    make_base("small-1")
    make_evaluation_set("week-1")
    page = open_browser(admin, java_script_enabled=script)
    page.goto(PAGE)
    page.select_option("#id_recipe", "small")
    if not script:
        page.click("#launch-look")
    page.wait_for_selector("#launch-go")
    assert "nothing: it begins at once" in page.text_content("#launch")
    assert not Run.objects.exists()
    page.click("#launch-go")
    page.wait_for_selector("#runs tbody tr")
    assert [run.recipe for run in Run.objects.all()] == ["small", "small"]
    assert "#run-" in page.url


@pytest.mark.usefixtures("engine")
def test_the_page_of_a_run_follows_it_to_its_end(open_browser, admin):
    run = make_learning_run(state=RunState.RUNNING, step=3, max_steps=10, loss=0.5, seconds_left=9.0)
    page = open_browser(admin)
    page.goto(f"{PAGE}runs/{run.pk}/")
    assert "step 3 of 10" in page.text_content("#run-state")
    Run.objects.update(state=RunState.CANCELLED)
    page.wait_for_selector("text=no checkpoint is kept")
    assert page.get_attribute("#run-state", "hx-trigger") is None
    page.click(f"#resume-{run.pk}")
    page.wait_for_selector("#run-state h2:has-text('Waiting')")
