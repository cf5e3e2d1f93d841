"""What happened in the demo's month, as a pure list of events: posts arrive, people report them, auditors work."""

import random
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from audit.demo.policies import POLICIES
from audit.demo.texts import CAMPAIGN_OF, DAYS, MINUTES_A_DAY, DemoItem

PAST_REPORTS = 96
WAITING_REPORTS = 144
TOXIC_REPORTS = 0.86
WRONG_POLICY = 0.06
FIRST_WORK = (DAYS - 5) * MINUTES_A_DAY
"""Minutes back: nobody works on reports before."""
BACKLOG = 0.2
"""Share of the past reports that came before anybody worked on them."""
CHOICES = 4
OLDEST_WAITING = 25 * 60
"""Minutes: a few of the waiting reports are overdue."""

_WORDS_ZH = ("换了字来发，搜不到的", "又是这个人", "头像里有号", "骗人的", "同样的文案见过三次", "")
_WORDS_EN = ("same text as last week", "hides the word on purpose", "asked me for money", "not a real sale", "")


@dataclass(frozen=True)
class DemoComplaint:
    """One user's word about an item."""

    external_id: str
    reporter_key: str
    reason: str
    minutes_back: int


@dataclass(frozen=True)
class ItemsArrive:
    """The posts of one day reach the site."""

    minutes_back: int
    items: tuple[DemoItem, ...]


@dataclass(frozen=True)
class ReportOpens:
    """Users complain about the first of these posts that is still there."""

    minutes_back: int
    choices: tuple["Grievance", ...]


@dataclass(frozen=True)
class Grievance:
    """The complaints about one post; `policy` is what the first user thinks that it breaks."""

    item: DemoItem
    policy: str
    complaints: tuple[DemoComplaint, ...]


@dataclass(frozen=True)
class RefitDue:
    """A moment at which the risk model may learn: the first time from reports alone, later where enough is new."""

    minutes_back: int


@dataclass(frozen=True)
class ReportWorked:
    """An auditor (0 or 1) takes the report about this item and works it through."""

    minutes_back: int
    item: DemoItem
    auditor: int


Event = ItemsArrive | ReportOpens | RefitDue | ReportWorked


def timeline(
    items: Sequence[DemoItem], *, seed: int, past: int = PAST_REPORTS, waiting: int = WAITING_REPORTS
) -> list[Event]:
    """All events, oldest first. The same arguments give the same events."""
    # Reproducible, nothing secret.
    rng = random.Random(f"timeline {seed}")  # noqa: S311
    chosen = _reported(items, past, waiting, rng)
    events: list[Event] = list(_arrivals(items))
    events += [RefitDue(minutes) for minutes in range(FIRST_WORK - 30, 0, -MINUTES_A_DAY // 2)]
    for number, item in enumerate(chosen[:past]):
        events += _past(number, item, rng)
    for number, item in enumerate(chosen[past : past + waiting]):
        choices = (item, *chosen[past + waiting + number :: waiting])
        events.append(_opens(choices, rng.randrange(5, OLDEST_WAITING), rng))
    return sorted(events, key=lambda event: -event.minutes_back)


def _arrivals(items: Sequence[DemoItem]) -> Iterator[ItemsArrive]:
    """Each day's posts at the end of that day."""
    days: dict[int, list[DemoItem]] = defaultdict(list)
    for item in items:
        days[item.minutes_back // MINUTES_A_DAY].append(item)
    for day, posts in sorted(days.items(), reverse=True):
        yield ItemsArrive(day * MINUTES_A_DAY, tuple(posts))


def _reported(items: Sequence[DemoItem], past: int, waiting: int, rng: random.Random) -> list[DemoItem]:
    """The reported posts: of every campaign some, and honest look-alikes; the past ones spread over the month."""
    early = [item for item in items if item.minutes_back >= FIRST_WORK + MINUTES_A_DAY // 2]
    later = [item for item in items if 3 * MINUTES_A_DAY <= item.minutes_back < FIRST_WORK]
    backlog = round(past * BACKLOG)
    recent = range(MINUTES_A_DAY, 12 * MINUTES_A_DAY)
    first = _pick(early, backlog, _campaign, rng) + _pick(later, past - backlog, _third_day, rng)
    taken = {item.external_id for item in first}
    left = [item for item in items if item.minutes_back in recent and item.external_id not in taken]
    return first + _pick(left, waiting * CHOICES, _campaign, rng)


def _pick(
    items: Sequence[DemoItem], count: int, group: Callable[[DemoItem], str], rng: random.Random
) -> list[DemoItem]:
    """Mostly toxic posts and some honest look-alikes, each group in turn."""
    toxic = _grouped([item for item in items if item.toxic], group, rng)
    normal = _grouped([item for item in items if item.campaign and not item.toxic], group, rng)
    wanted = round(count * TOXIC_REPORTS)
    picked = _round_robin(toxic, wanted) + _round_robin(normal, count - wanted)
    rng.shuffle(picked)
    return picked


def _campaign(item: DemoItem) -> str:
    return item.campaign


def _third_day(item: DemoItem) -> str:
    return str(item.minutes_back // (3 * MINUTES_A_DAY))


def _grouped(items: Sequence[DemoItem], group: Callable[[DemoItem], str], rng: random.Random) -> list[list[DemoItem]]:
    groups: dict[str, list[DemoItem]] = defaultdict(list)
    for item in items:
        groups[group(item)].append(item)
    for members in groups.values():
        rng.shuffle(members)
    return list(groups.values())


def _round_robin(groups: Sequence[list[DemoItem]], count: int) -> list[DemoItem]:
    longest = max(map(len, groups), default=0)
    in_turn = [group[turn] for turn in range(longest) for group in groups if turn < len(group)]
    return in_turn[:count]


def _past(number: int, item: DemoItem, rng: random.Random) -> Iterator[Event]:
    """A report opens within a day and a half of the post's arrival, and is worked through before its day is over; the
    backlog in the first days of work.
    """
    arrived = item.minutes_back // MINUTES_A_DAY * MINUTES_A_DAY
    if arrived > FIRST_WORK:
        opened = rng.randrange(FIRST_WORK, arrived)
        worked = FIRST_WORK - rng.randrange(60, 4 * MINUTES_A_DAY)
    else:
        opened = arrived - rng.randrange(30, 36 * 60)
        worked = opened - rng.randrange(2 * 60, 22 * 60)
    yield _opens((item,), opened, rng)
    yield ReportWorked(max(worked, 60), item, number % 2)


def _opens(choices: Sequence[DemoItem], minutes_back: int, rng: random.Random) -> ReportOpens:
    return ReportOpens(minutes_back, tuple(_grievance(item, minutes_back, rng) for item in choices))


def _grievance(item: DemoItem, minutes_back: int, rng: random.Random) -> Grievance:
    campaign = CAMPAIGN_OF[item.campaign]
    words = _WORDS_EN if item.language == "en" else _WORDS_ZH
    count = min(14, 1 + int(rng.expovariate(1 / 2.5))) if item.toxic else rng.choice((1, 1, 1, 2))
    complaints = tuple(
        DemoComplaint(
            external_id=f"c-{item.external_id}-{number}",
            reporter_key=f"r-{rng.randrange(9000):04d}",
            reason=rng.choice(campaign.reasons if rng.random() < 0.7 else words),
            minutes_back=minutes_back + number * rng.randrange(2, 60),
        )
        for number in range(count)
    )
    # Now and then the first user names the wrong policy; the auditor puts it right.
    policy = campaign.policy if rng.random() > WRONG_POLICY else rng.choice(POLICIES).key
    return Grievance(item, policy, complaints)
