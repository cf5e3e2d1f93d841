"""What the builders work on: a phrase of a reported text, with what the search system found by it."""

from collections import Counter
from dataclasses import dataclass
from enum import StrEnum

from django.db.models import TextChoices
from django.utils.translation import gettext_lazy as _

from training.datasets.options import Options
from training.metrics import wilson_interval


class DropReason(TextChoices):
    """Why something that went in did not come out. The first reason that holds is the one that counts."""

    UNDONE = "undone", _("taken back")
    UNCONFIRMED = "unconfirmed", _("its report is not confirmed")
    EVALUATION = "evaluation", _("in a near-duplicate cluster of the evaluation set")
    ERASED = "erased", _("the text was erased")
    NOT_IN_TEXT = "not_in_text", _("the phrase is not in the text")
    UNSAYABLE = "unsayable", _("holds a comma or a line break, which separate phrases in an answer")
    TOO_SHORT = "too_short", _("too short")
    TOO_LONG = "too_long", _("too long")
    NOTHING_EXPOSED = "nothing_exposed", _("longer than 10, and it exposed nothing")
    MIX = "mix", _("left out by the mix of sources")
    REPEATED = "repeated", _("the same text and phrase again")
    BEYOND_LIMIT = "beyond_limit", _("older than the newest that are drawn for")
    ONE_SIDED = "one_sided", _("group without both sides")
    NO_ROOM = "no_room", _("no sample of the group fits")
    SAME_AS_PAIR = "same_as_pair", _("a group of one pair, which is in D already")
    FEW_CANDIDATES = "few_candidates", _("fewer than two candidates with a score")
    NO_GAP = "no_gap", _("best and worst candidate are too close")


Drops = Counter[DropReason]


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the log says of a phrase, the items left out whose reports gave it: they match it by construction.

    `judged`: exposed items that match it and have an undisputed verdict, those removed since included; `toxic` of them;
    `shown`: items that the phrase itself exposed, hit(k|S).
    """

    toxic: int = 0
    judged: int = 0
    shown: int = 0

    @property
    def precision(self) -> float:
        """p(k|S) = toxic / judged. Raises ZeroDivisionError where nothing was judged: unjudged is not normal."""
        return self.toxic / self.judged


@dataclass(frozen=True, slots=True)
class Pair:
    """(c, k) of eq. (1): `phrase` stands verbatim in the reported `text`. Equal `key`s are one query.

    `source` is human or model; `suggester` names who proposed it, "" where no suggestion was there. `kind`: accepted,
    edited or own. `is_mapped`: the decision named no place in the text, the phrase was found by its normalised form.
    """

    id: str
    text: str
    phrase: str
    key: str
    policy: str = ""
    source: str = "human"
    suggester: str = ""
    kind: str = "own"
    is_mapped: bool = False
    evidence: Evidence = Evidence()


class Side(StrEnum):
    PREFERRED = "preferred"
    DISPREFERRED = "dispreferred"
    UNKNOWN = "unknown"


def side_of(evidence: Evidence, options: Options) -> Side:
    """The side of eq. (4) on which a phrase stands: p(k|S) above the threshold, or not; unknown with too few judged.

    With `use_wilson` the bound of the 95 % interval must lie on that side too, so that a phrase can only leave a side.

    >>> side_of(Evidence(toxic=1, judged=5), Options()), side_of(Evidence(toxic=1, judged=5), Options(use_wilson=True))
    (<Side.PREFERRED: 'preferred'>, <Side.UNKNOWN: 'unknown'>)
    >>> side_of(Evidence(toxic=0, judged=5), Options()), side_of(Evidence(toxic=1, judged=20), Options())
    (<Side.UNKNOWN: 'unknown'>, <Side.DISPREFERRED: 'dispreferred'>)
    """
    if not evidence.judged:
        return Side.UNKNOWN
    low = high = evidence.precision
    if options.use_wilson:
        interval = wilson_interval(evidence.toxic, evidence.judged)
        low, high = interval.low, interval.high
    if low > options.threshold and evidence.judged >= options.min_judged_preferred:
        return Side.PREFERRED
    if high <= options.threshold and evidence.judged >= options.min_judged_dispreferred:
        return Side.DISPREFERRED
    return Side.UNKNOWN
