"""The whole of learning on one small site, with the real parts: what auditors did becomes what is suggested next.

logs → D → SFT → D_comp → DPO → evaluation → a pool is judged → the gate promotes → suggestions of the new adapter.
"""

import pytest
from django.utils import timezone

from audit import jobs as audit_jobs
from audit.intake import ComplaintRow, ItemRow, store_complaints, store_items
from audit.models import Proposer, Report, SuggesterSwitch, Suggestion, SuggestionsState, Verdict
from audit.presentation.pool import waiting as waiting_to_be_judged
from audit.services import judge, judge_pool_item
from extraction.models import AdapterRole, BaseModel
from extraction.registry import adapter_in
from tests.audit.loop import confirm, confirmed_report, explored, exposures_of, key, make_indexed, own
from tests.factories import make_policy, make_report
from tests.queues import empty_queues, work_off
from tests.tiny import need_learning_stack
from training import jobs, supervising
from training.models import Evaluation, EvaluationSet, GateVerdict, Run, RunState
from training.services import launch, start_base, start_freeze

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]

SOLD = [f"代办毕业征钢印齐全当天寄出{end}" for end in "甲乙丙丁戊己庚辛壬癸"]
HARMLESS = [f"二手{thing}包邮九成新" for thing in "车书包鞋帽伞灯桌椅床柜琴棋画笔纸墨盘碗杯壶锅刀叉勺"]
REPORTED = [f"急需毕业征的看过来，{place}可面交，包邮" for place in "京津沪渝蓉杭宁汉"]
CAMPAIGNS = [
    "刷单兼职日结联系微信",
    "高仿名表低价出售私聊",
    "赌博开户优惠加群",
    "代开发票电话联系",
    "贷款秒批无需抵押征信",
    "私家侦探查人定位跟踪",
]
"""Of the test week: each has four copies in the collection that nobody has looked at."""


@pytest.fixture
def site(settings, tmp_path, monkeypatch):
    need_learning_stack()
    settings.MEDIA_ROOT, settings.VAR_DIR = tmp_path / "storage", tmp_path / "machine"
    settings.ARTIFACT_CACHE, settings.SEARCH_FILE = tmp_path / "cache", tmp_path / "search.sqlite3"
    settings.VAR_DIR.mkdir()
    monkeypatch.setattr(supervising, "POLL_S", 0.1)
    empty_queues()
    yield
    empty_queues()


def verdict_on(text):
    return Verdict.TOXIC if "毕业征" in text or any(text.startswith(words) for words in CAMPAIGNS) else Verdict.NORMAL


def audit_past(auditor, policy):
    """A week of work: each report gives a phrase that finds the sellers, and one that finds anybody's post."""
    first = confirmed_report(auditor, REPORTED[0], policy=policy)
    for exposure in exposures_of(explored(first, auditor, "毕业征", "包邮")):
        judge(exposure=exposure, user=auditor, verdict=verdict_on(exposure.item_text.text), key=key())
    for text in REPORTED[1:]:
        report = confirmed_report(auditor, text, policy=policy)
        for phrase in ("毕业征", "包邮"):
            own(report, auditor, phrase)


def work():
    """Let the workers of these queues do what there is to do."""
    jobs.learning_tick()
    while work_off("default", "data", "train"):
        pass


def test_what_auditors_did_becomes_what_is_suggested_next(site, auditor, admin):
    policy = make_policy("forged")
    make_indexed(*SOLD, *HARMLESS, *(f"{words}{end}" for words in CAMPAIGNS for end in "子丑寅卯"))
    audit_past(auditor, policy)
    cutoff = timezone.now()
    for words in CAMPAIGNS:
        confirm(make_report(text=words, policy=policy), auditor)

    start_freeze(name="week", cutoff=cutoff, user=admin)
    work()
    start_base(profile="tiny", user=admin)
    work()
    tests = EvaluationSet.objects.get()
    assert len(tests.reports) == len(CAMPAIGNS)
    launch(
        recipe="tiny", base=BaseModel.objects.get(), evaluation_set=tests, gate_decides=True, until=cutoff, user=admin
    )
    work()

    sft, dpo = Run.objects.select_related("adapter", "dataset").order_by("pk")
    assert (sft.state, sft.error, dpo.error) == (RunState.DONE, "", "")
    assert (sft.dataset.rows_out, dpo.dataset.rows_out) == (16, 1)
    assert dpo.adapter.parent == sft.adapter
    evaluation = Evaluation.objects.get()
    assert (evaluation.error, evaluation.verdict) == ("", GateVerdict.UNDECIDED)
    assert adapter_in(AdapterRole.SERVING) is None

    for item in waiting_to_be_judged():
        judge_pool_item(pool_item=item, user=auditor, verdict=verdict_on(item.item_text.text), key=key())
    work()
    evaluation.refresh_from_db()
    dpo.refresh_from_db()
    assert evaluation.verdict == GateVerdict.PASSES, evaluation.gate
    assert dpo.state == RunState.PROMOTED
    assert adapter_in(AdapterRole.SERVING) == dpo.adapter

    # One phrase of search covers so small a site, so here only the model may propose.
    SuggesterSwitch.objects.create(suggester="search", is_on=False)
    now = timezone.now()
    store_items([ItemRow("market", f"new{number}", f"{text}，全国包邮", now) for number, text in enumerate(SOLD)])
    store_complaints([ComplaintRow("market", "c1", "new0", policy.key, now)])
    for _minute in range(2):
        audit_jobs.tick()
        while work_off("default", "suggest"):
            pass
    report = Report.objects.get(item__external_id="new0")
    assert report.suggestions_state == SuggestionsState.READY
    assert report.batch.adapter == dpo.adapter
    shown = Suggestion.objects.filter(batch=report.batch)
    assert {one.proposer for one in shown} == {Proposer.MODEL}
    assert all(report.item_text.text[one.span_start : one.span_end] == one.text for one in shown)
