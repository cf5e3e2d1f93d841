"""What a campaign is: one kind of toxic post, its wording over a month, and the honest posts that share its words."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Wave:
    """The wording of one stretch of time: from `first_day` to `last_day`, both counted back from the end."""

    first_day: int
    last_day: int
    slots: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class Campaign:
    """One campaign.

    `naive` is what one would type first; the posts of the campaign nearly always avoid it, the `normals` use it.
    `good` are phrases of the posts themselves that find a cluster. In `plans` the slot ``word`` is the hidden word.
    """

    key: str
    policy: str
    language: str
    weight: int
    naive: str
    good: tuple[str, ...]
    plans: tuple[str, ...]
    slots: Mapping[str, tuple[str, ...]]
    waves: tuple[Wave, ...]
    normals: tuple[str, ...]
    reasons: tuple[str, ...] = field(default=("other",))
