"""The demo's own language model, made in the background from nothing but the demo's log.

The steps are those of the Training page, one after the other: a test set of the last week is frozen, the small base is
built without it, SFT and DPO adapters are trained and evaluated, and the gate decides. DPO learns from the model's own
candidates, scored by the search system: nothing that the demo's auditors ran was judged often and found nothing, so
there are no pairs in its log (D_comp).

Where the gate does not let the adapter serve, which is likely with a week's few reports, it challenges `search` on half
of the reports, so that its queries are seen, and the log says why it does no more.
"""

import uuid
from datetime import timedelta
from importlib.util import find_spec

from django.conf import settings
from django.contrib.auth.models import User
from django.utils.translation import gettext as _

from audit.demo.cast import DEMO_GROUP
from audit.demo.load import BEGIN, is_complete
from audit.models import JobState, RecordedRequest
from audit.queueing import is_under_way
from extraction.models import AdapterPromotion, AdapterRole, BaseModel
from extraction.registry import adapter_in
from training.models import BaseBuild, Evaluation, EvaluationSet, GateVerdict, Run, RunState
from training.promote import promote
from training.running import STACK
from training.services import launch, start_base, start_freeze

TESTS = "demo-week"
TEST_DAYS = 7
PROFILE = "small"
RECIPE = "small-pol"
SHARE = 0.5
ATTEMPTS = 10
"""How often each step is asked for: a stop of the site interrupts it, and one that fails is not tried for ever."""


def look_after() -> None:
    """Once a minute, on a site that shows the demo: ask for the first step that is not done yet."""
    if not settings.DEMO or not is_complete() or any(find_spec(name) is None for name in STACK):
        return
    run = _last_of_chain()
    if run is not None:
        _give_role(run)
    elif not EvaluationSet.objects.filter(name=TESTS).exists():
        if _may_ask("data", f"freeze-{TESTS}"):
            start_freeze(name=TESTS, cutoff=RecordedRequest.objects.get(key=BEGIN).at - timedelta(days=TEST_DAYS))
    elif not BaseModel.objects.exists():
        if not BaseBuild.objects.exists():  # one that was interrupted is picked up by the tick
            start_base(profile=PROFILE)
    elif _may_ask("default", "advance-training", attempts=1):
        tests = EvaluationSet.objects.get(name=TESTS)
        launch(recipe=RECIPE, base=BaseModel.objects.latest("pk"), evaluation_set=tests, gate_decides=True)


def _last_of_chain() -> Run | None:
    """The run of the demo's own chain that is evaluated; people's runs have a user."""
    return Run.objects.filter(recipe=RECIPE, evaluation_set__name=TESTS, user=None).order_by("pk").first()


def _give_role(run: Run) -> None:
    """Let an adapter that the gate did not let serve challenge, once."""
    if run.adapter is None or run.state not in {RunState.DONE, RunState.REFUSED}:
        return
    evaluation = Evaluation.objects.filter(adapter=run.adapter, state=JobState.DONE).first()
    has_had_a_role = AdapterPromotion.objects.filter(adapter=run.adapter).exists()
    if evaluation is None or has_had_a_role or adapter_in(AdapterRole.CHALLENGER) is not None:
        return
    promote(run.adapter, role=AdapterRole.CHALLENGER, share=SHARE, reason=_why(evaluation))


def _why(evaluation: Evaluation) -> str:
    if evaluation.verdict == GateVerdict.UNDECIDED:
        gate = _("The gate is undecided: too few of the results on the test set are judged.")
    else:
        gate = _("The gate did not let it serve.")
    return _("For the demo, so that a language model's queries are seen on half of the reports.") + f" {gate}"


def _may_ask(queue: str, job_id: str, *, attempts: int = ATTEMPTS) -> bool:
    """Note that a step is asked for. False where its job is under way, or where it was asked for too often."""
    if is_under_way(queue, job_id):
        return False
    admin = User.objects.filter(groups__name=DEMO_GROUP, is_staff=True).earliest("pk")
    noted = {"action": "demo learns", "user": admin}
    keys = (uuid.uuid5(BEGIN, f"{job_id} {attempt}") for attempt in range(attempts))
    return any(RecordedRequest.objects.get_or_create(key=key, defaults=noted)[1] for key in keys)
