"""The admin's pages of learning: who gets in, what they show in every state, and that a double click is one."""

import html
import json
from datetime import timedelta

import pytest
from django.urls import reverse
from django.utils import timezone

from audit.models import Export, JobState
from extraction.artifacts import store_artifact
from tests.factories import (
    make_adapter,
    make_base,
    make_dataset,
    make_digest,
    make_evaluation,
    make_evaluation_set,
    make_key,
    make_learning_run,
    make_promotion,
    make_report,
    make_report_event,
    make_suggestion,
)
from tests.training.learning_pages import address, client, page, press, storage
from training import urls
from training.models import BaseBuild, Dataset, LearningSettings, Run, RunState

__all__ = ["client", "storage"]
pytestmark = pytest.mark.django_db

EVERYONE_ELSE = ["auditor", "researcher", "stranger"]
POSTS = {
    *{"cancel", "resume", "build", "build-counted", "freeze", "build-base", "dataset-file"},
    *{"decide", "evaluate", "score", "rollback"},
}
BOTH = {"launch"}


@pytest.fixture
def addresses():
    """A real address for every name."""
    run = make_learning_run()
    evaluation = make_evaluation(adapter=run.adapter)
    arguments = {name: [run.pk] for name in ("run", "run-state", "cancel", "resume")}
    arguments |= {name: [run.dataset.name] for name in ("dataset", "build-counted", "dataset-file")}
    arguments |= {name: [run.adapter.name] for name in ("adapter", "decide", "evaluate", "score")}
    arguments["evaluation"] = [evaluation.pk]
    return {pattern.name: address(pattern.name, *arguments.get(pattern.name, [])) for pattern in urls.urlpatterns}


# --- who gets in ------------------------------------------------------------------------------------------------------


def test_who_is_not_signed_in_is_sent_to_sign_in(client, addresses):
    client.logout()
    for name, path in addresses.items():
        answer = (client.post if name in POSTS else client.get)(path)
        assert (answer.status_code, answer["Location"][:7]) == (302, "/login/"), name


def test_the_wrong_verb_is_refused(client, addresses):
    for name, path in addresses.items():
        if name not in BOTH:
            assert (client.get if name in POSTS else client.post)(path).status_code == 405, name


def test_a_post_without_a_key_records_nothing(client, addresses):
    for name in POSTS | BOTH:
        assert client.post(addresses[name]).status_code == 422, name


def test_rows_with_texts_take_the_right_to_export_without_masks(make_user, login):
    from django.contrib.auth.models import Permission

    user = make_user("trainer")
    user.user_permissions.add(Permission.objects.get(codename="manage_learning"))
    dataset = make_dataset()
    assert press(login(user), "dataset-file", dataset.name, reason="curious").status_code == 403


def test_admins_find_the_page_from_everywhere(client):
    link = f'href="{address("overview")}"'
    assert link in client.get(reverse("admin:index")).content.decode()
    assert link in client.get(reverse("audit:history")).content.decode()


def test_nobody_else_is_shown_the_way(login, auditor):
    assert address("overview") not in login(auditor).get(reverse("audit:history")).content.decode()


# --- what it shows ----------------------------------------------------------------------------------------------------


def test_an_empty_site_says_what_to_do(client):
    words = page(client)
    assert "There is no base model yet" in words
    assert "Nothing was trained yet" in words
    assert "suggestions come from search alone" in words


@pytest.mark.parametrize("state", [state.value for state in RunState])
def test_a_run_of_every_state_has_its_row_and_page(client, state):
    values = {"loss": 0.5, "seconds_left": 60.0, "step": 3, "max_steps": 9, "evaluation_set": make_evaluation_set()}
    adapter = make_adapter() if state in {"evaluating", "promoted", "refused"} else None
    run = make_learning_run(state=state, started=timezone.now(), **({"adapter": adapter} if adapter else {}), **values)
    assert f'id="run-{run.pk}"' in page(client)
    assert str(run.dataset) in page(client, "run", run.pk)


def test_the_page_asks_again_only_while_something_is_under_way(client):
    make_learning_run()
    assert "hx-trigger" not in page(client).partition('id="runs"')[2].partition("</section>")[0]
    make_learning_run(state=RunState.RUNNING)
    assert 'hx-trigger="every 5s"' in page(client)


def test_asking_again_ends_when_the_last_run_has(client):
    run = make_learning_run(state=RunState.RUNNING)
    htmx = {"HX-Request": "true"}
    assert client.get(address("work"), headers=htmx).status_code == 200
    assert client.get(address("run-state", run.pk), headers=htmx).status_code == 200
    Run.objects.update(state=RunState.CANCELLED)
    answer = client.get(address("work"), headers=htmx)
    assert answer.status_code == 286
    assert "hx-trigger" not in answer.content.decode()
    assert client.get(address("run-state", run.pk), headers=htmx).status_code == 286


def test_without_script_the_state_leads_to_the_page(client):
    run = make_learning_run()
    assert client.get(address("run-state", run.pk)).status_code == 303
    assert client.get(address("work")).status_code == 303


def test_a_failed_run_shows_its_sentence_and_its_trace(client):
    run = make_learning_run(state=RunState.FAILED, error="The memory is full.", trace="Traceback <here>")
    assert "The memory is full." in page(client)
    assert "Traceback &lt;here&gt;" in page(client, "run", run.pk)


def test_the_curve_is_drawn_without_a_script_or_a_style(client):
    run = make_learning_run(curve=[[1, 2.0, None], [5, 1.0, None], [9, 0.5, None]], max_steps=9)
    words = page(client, "run", run.pk)
    assert '<polyline class="chart__line" points="62.2,0.0 311.1,80.0 560.0,120.0"' in words
    assert "style=" not in words


def test_the_share_of_reports_that_were_ahead_has_its_count(client):
    for _number in range(3):
        report = make_report()
        make_report_event(report=report, kind="claimed", at=timezone.now() + timedelta(minutes=1))
    make_suggestion(report=report, proposer="both")
    page = client.get(reverse("training:overview")).content.decode()
    assert "<b>33%</b>" in page
    assert "1 of 3, a model's in 1<" in html.unescape(page)


def test_a_page_costs_few_queries_however_long_the_lists(client, django_assert_max_num_queries):
    for _number in range(8):
        run = make_learning_run()
        make_evaluation(adapter=run.adapter)
    page(client)
    with django_assert_max_num_queries(40):
        page(client)


# --- launching --------------------------------------------------------------------------------------------------------


@pytest.fixture
def launched():
    base, test_set = make_base(), make_evaluation_set()
    return {"recipe": "small", "base": base.name, "evaluation_set": test_set.name, "seed": "7"}


def test_looking_at_a_launch_shows_what_is_under_way_the_time_and_the_disk(client, launched):
    earlier = make_learning_run(base=make_base())
    run = make_learning_run(state=RunState.RUNNING, seconds_left=600)
    words = page(client, "launch", **launched)
    assert f"run {run.pk}" in words
    assert "about 10 min" in words
    assert "free" in words
    assert "not known" in words
    assert Run.objects.count() == 2
    assert earlier.pk


def test_time_is_told_by_earlier_runs_on_that_base(client, launched):
    base = make_base("measured")
    now = timezone.now()
    for kind, dataset_kind in (("sft", "sft"), ("dpo", "comp")):
        dataset = make_dataset(kind=dataset_kind, rows_out=100)
        make_learning_run(base=base, kind=kind, dataset=dataset, started=now - timedelta(minutes=10), finished=now)
    assert "about 1 h 10 min" in page(client, "launch", **(launched | {"base": "measured"}))


def test_a_launch_is_a_chain_of_runs(client, launched):
    answer = press(client, "launch", **launched, gate_decides="on")
    first, second = Run.objects.order_by("pk")
    assert answer.status_code == 303
    assert answer["Location"].endswith(f"#run-{first.pk}")
    assert (first.kind, second.kind, second.after) == ("sft", "dpo", first)
    assert (first.evaluation_set, second.evaluation_set.name) == (None, launched["evaluation_set"])
    assert (first.gate_decides, second.gate_decides) == (False, True)
    assert {run.seed for run in (first, second)} == {7}
    assert {run.user.username for run in (first, second)} == {"admin"}


def test_a_double_click_is_one_launch(client, launched):
    key = make_key()
    for _click in range(2):
        assert client.post(address("launch"), launched | {"key": key}).status_code == 303
    assert Run.objects.count() == 2


def test_the_same_launch_again_today_asks_whether_it_is_meant(client, launched):
    press(client, "launch", **launched)
    answer = press(client, "launch", **launched)
    assert answer.status_code == 422
    assert 'name="is_sure"' in answer.content.decode()
    assert Run.objects.count() == 2
    press(client, "launch", **launched, is_sure="on")
    assert Run.objects.count() == 4


@pytest.mark.parametrize("wrong", [{"recipe": "none"}, {"base": "none"}, {"seed": "-1"}])
def test_a_launch_that_cannot_be_is_answered_with_the_form(client, launched, wrong):
    answer = press(client, "launch", **(launched | wrong))
    assert answer.status_code == 422
    assert not Run.objects.exists()
    assert client.get(address("launch"), launched | wrong).status_code == 200


def test_the_gate_cannot_decide_about_nothing(client, launched):
    answer = press(client, "launch", **(launched | {"evaluation_set": ""}), gate_decides="on")
    assert answer.status_code == 422
    assert "choose the test set" in answer.content.decode()


# --- runs -------------------------------------------------------------------------------------------------------------


def test_a_run_is_stopped_once(client):
    run = make_learning_run(state=RunState.QUEUED)
    assert press(client, "cancel", run.pk).status_code == 303
    answer = press(client, "cancel", run.pk)
    assert answer.status_code == 409
    assert "nothing to stop" in answer.content.decode()


def test_stopped_on_its_own_page_leads_back_to_it(client):
    run = make_learning_run(state=RunState.RUNNING)
    assert press(client, "cancel", run.pk, **{"from": "run"})["Location"] == address("run", run.pk)
    assert press(client, "cancel", run.pk, **{"from": "run"}).status_code == 409


def test_a_failed_run_is_resumed(client):
    run = make_learning_run(state=RunState.FAILED)
    press(client, "resume", run.pk)
    run.refresh_from_db()
    assert run.state == RunState.WAITING


# --- datasets ---------------------------------------------------------------------------------------------------------


def test_a_dataset_is_counted_first(client):
    press(client, "build", kind="comp")
    dataset = Dataset.objects.get()
    assert (dataset.kind, dataset.is_dry_run, dataset.state) == ("comp", True, JobState.QUEUED)


def test_counted_it_offers_to_be_built(client):
    dataset = make_dataset(state=JobState.DRAFT, is_dry_run=True, digest="")
    assert "Build it" in page(client)
    press(client, "build-counted", dataset.name)
    dataset.refresh_from_db()
    assert (dataset.state, dataset.is_dry_run) == (JobState.QUEUED, False)
    assert press(client, "build-counted", dataset.name).status_code == 409


def test_own_candidates_need_an_adapter(client):
    answer = press(client, "build", kind="pol")
    assert answer.status_code == 422
    assert "Choose the adapter" in answer.content.decode()


def test_a_dataset_shows_drops_shares_and_rows(client):
    data = json.dumps({"content": "加微信代开发票", "queries": ["代开发票"]}).encode() + b"\n"
    digest = make_digest()
    store_artifact(data, digest)
    card = {"by_source": {"human": {"count": 3, "share": 0.75}}, "distinct_queries": 2}
    dataset = make_dataset(digest=digest, preview=[0], dropped={"too_long": 1_200}, card=card)
    words = page(client, "dataset", dataset.name)
    assert "<b>1,200</b> too long" in words
    assert "human 75% (3)" in words
    assert "代开发票" in words
    answer = press(client, "dataset-file", dataset.name, reason="to train elsewhere")
    assert b"".join(answer.streaming_content) == data
    assert answer["Content-Disposition"] == f'attachment; filename="{dataset.name}.jsonl"'


def test_who_takes_rows_without_masks_and_why_is_kept(client, admin):
    digest = make_digest()
    store_artifact(b"{}\n", digest)
    dataset = make_dataset(kind="comp", digest=digest, rows_out=1)
    press(client, "dataset-file", dataset.name, reason="to train elsewhere")
    taken = Export.objects.get()
    assert (taken.user, taken.reason, taken.is_unmasked) == (admin, "to train elsewhere", True)
    assert (taken.stream, taken.digest, taken.rows) == ("preference_rows", digest, 1)
    assert "to train elsewhere" in client.get(reverse("audit:exports")).content.decode()
    assert client.get(reverse("audit:export-manifest", args=[taken.public_id])).json()["sha256"] == digest


@pytest.mark.parametrize("reason", ["", " "])
def test_rows_without_masks_take_a_reason(client, reason):
    answer = press(client, "dataset-file", make_dataset().name, reason=reason)
    assert answer.status_code == 422
    assert "Say why" in answer.content.decode()
    assert not Export.objects.exists()


def test_a_dataset_whose_file_is_gone_still_has_its_page(client):
    dataset = make_dataset(preview=[0])
    page(client, "dataset", dataset.name)
    assert press(client, "dataset-file", dataset.name, reason="to train").status_code == 404


# --- ground -----------------------------------------------------------------------------------------------------------


def test_freezing_needs_a_confirmed_report(client):
    answer = press(client, "freeze", name="t-1", first="2026-01-01")
    assert answer.status_code == 422
    assert "nothing to test on" in answer.content.decode()
    make_report(status="closed", outcome="confirmed")
    assert press(client, "freeze", name="t-1", first="2026-01-01").status_code == 303


def test_a_test_set_keeps_its_name(client):
    make_evaluation_set("t-1")
    assert press(client, "freeze", name="t-1", first="2026-01-01").status_code == 422


@pytest.mark.parametrize(("profile", "recipe"), [("small", "small"), ("", "paper")])
def test_the_form_offers_the_newest_base_and_a_recipe_for_it(client, profile, recipe):
    make_base("older")
    make_base("newest", profile=profile)
    words = client.get(reverse("training:overview")).content.decode()
    assert f'<option value="{recipe}" selected>' in words
    assert '<option value="newest" selected>' in words


def test_the_head_names_a_challenger(client):
    make_promotion(role="challenger", share=0.25)
    words = page(client)
    assert "challenges on 25% of the reports" in words
    assert "suggestions come from search alone" not in words


def test_a_base_is_asked_for(client):
    assert press(client, "build-base", profile="tiny").status_code == 303
    assert press(client, "build-base", profile="huge").status_code == 422


def test_a_second_base_of_a_size_is_not_begun_meanwhile(client):
    press(client, "build-base", profile="tiny")
    assert press(client, "build-base", profile="tiny").status_code == 409
    assert BaseBuild.objects.count() == 1


def test_the_page_says_how_far_a_base_is_and_why_one_failed(client):
    BaseBuild.objects.create(profile="small", state=JobState.RUNNING, step=300, max_steps=2400)
    words = page(client)
    assert "A small one is being built:" in words
    assert "step 300 of 2,400" in words
    assert "see below how far it is" in words
    BaseBuild.objects.update(state=JobState.FAILED, error="There are no texts.")
    words = page(client)
    assert "A small one could not be built." in words
    assert "There are no texts." in words


# --- settings ---------------------------------------------------------------------------------------------------------


def settings_form(**changes):
    values = {
        "recipe": "small",
        "every": "6",
        "after_judgments": "2000",
        "hit_rate_margin": "0.01",
        "precision_margin": "0.02",
        "judged_at_least": "0.9",
        "keep_checkpoints": "7",
    }
    return values | changes


def save_settings(client, **changes):
    pk = LearningSettings.load().pk
    return client.post(reverse("admin:training_learningsettings_change", args=[pk]), settings_form(**changes))


def test_the_schedule_is_set_and_said_on_the_page(client):
    assert save_settings(client).status_code == 302
    row = LearningSettings.load()
    assert (row.recipe, row.every, row.after_judgments) == ("small", 6, 2000)
    assert row.scheduled_on == timezone.localdate()
    assert "every Sunday, or after 2,000 new judgments, 0 so far" in page(client)


def test_a_recipe_that_would_never_run_is_refused(client):
    assert save_settings(client, every="", after_judgments="").status_code == 200
    assert LearningSettings.load().recipe == ""


@pytest.mark.parametrize("who", EVERYONE_ELSE)
def test_only_admins_set_the_schedule(request, login, who):
    save_settings(login(request.getfixturevalue(who)))
    assert LearningSettings.load().recipe == ""


def test_every_list_of_learning_in_the_admin_opens(client):
    make_evaluation(adapter=make_learning_run().adapter)
    LearningSettings.load()
    for app, model in (
        *(
            ("training", name)
            for name in ("run", "dataset", "evaluation", "evaluationset", "refusal", "learningsettings")
        ),
        *(("extraction", name) for name in ("adapter", "basemodel", "adapterpromotion")),
    ):
        assert client.get(reverse(f"admin:{app}_{model}_changelist")).status_code == 200, model
