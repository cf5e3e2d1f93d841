"""The loop as a test walks it: an index in a file of its own, and short ways to a report that is being explored."""

import uuid
from collections.abc import Iterable
from typing import Any

from django.contrib.auth.models import User

from audit.jobs import run_exploration
from audit.models import (
    Decision,
    Exploration,
    Exposure,
    Item,
    ItemState,
    Policy,
    Report,
    Suggestion,
    Verdict,
)
from audit.services import add_own_query, claim, explore, judge_report, open_page
from extraction.search import Document, get_engine
from extraction.text import MatchMode
from tests.factories import make_item, make_report


def key() -> uuid.UUID:
    return uuid.uuid4()


def index(items: Iterable[Item]) -> None:
    """Put items into the index as they stand."""
    failures = get_engine().put(
        Document(
            id=item.pk,
            text=item.text.text if item.text else "",
            version=item.version,
            live=item.state == ItemState.LIVE,
            created=item.created,
            risk=item.risk,
            verdict="",
            language="en",
            platform=item.platform,
            author=item.author_key,
        )
        for item in items
    )
    assert not failures
    get_engine().refresh()


def make_indexed(*texts: str, **kwargs: Any) -> list[Item]:
    items = [make_item(text, **kwargs) for text in texts]
    index(items)
    return items


def confirm(report: Report, user: User, *, policy: Policy | None = None) -> Report:
    """Claim a report and judge its text toxic."""
    claim(report=report, user=user, key=key())
    judge_report(report=report, user=user, verdict=Verdict.TOXIC, policy=policy or report.policy, key=key())
    report.refresh_from_db()
    return report


def confirmed_report(user: User, text: str = "forged diploma with stamp", **kwargs: Any) -> Report:
    return confirm(make_report(text=text, **kwargs), user)


def own(report: Report, user: User, text: str, mode: MatchMode = MatchMode.PHRASE) -> Decision:
    return add_own_query(report=report, user=user, text=text, mode=mode, key=key())


def explored(report: Report, user: User, *texts: str) -> Exploration:
    """Run queries of one's own and open the first page."""
    for text in texts:
        own(report, user, text)
    exploration = explore(reports=[report], user=user, key=key())
    run_exploration(exploration.pk)
    exploration.refresh_from_db()
    open_page(exploration=exploration, user=user, number=1, key=key())
    return exploration


def exposures_of(exploration: Exploration) -> list[Exposure]:
    return list(Exposure.objects.filter(run__exploration_query__exploration=exploration).order_by("position", "run_id"))


def pending(report: Report) -> list[Suggestion]:
    return list(Suggestion.objects.of_batch(report.batch_id))
