"""Attach mode, the application's side: what it knows of foreign items, and item rows for those that are shown.

A site is attached where `settings.SEARCH_ATTACH` names a foreign index. An item row is made when an item is reported
(audit/intake/store.py) or first exposed (here), with the text as it is then; nothing is ever written into the index.
"""

from collections.abc import Mapping, Sequence
from itertools import islice

from django.conf import settings

from audit.intake.store import foreign_platform, store_foreign
from audit.models import Exploration, Item, ItemState, QueryRun, StandingVerdict
from audit.results import merge
from extraction.registry import serving_risk
from extraction.search import get_attached
from extraction.search.foreign import ForeignState


class ItemRows:
    """The overlay: state and verdict of the foreign items that have a row, and risks by the serving model."""

    def states(self, external_ids: Sequence[str]) -> Mapping[str, ForeignState]:
        rows = Item.objects.filter(platform=foreign_platform(), external_id__in=external_ids)
        found = {row.text_id: row for row in rows.only("external_id", "state", "text_id")}
        verdicts = dict(
            StandingVerdict.objects.filter(item_text__in=found, verdict__in=["normal", "toxic"])
            .order_by("verdict")  # toxic comes last and wins: a text is toxic if it is so under any policy
            .values_list("item_text_id", "verdict")
        )
        return {
            row.external_id: ForeignState(row.pk, row.state == ItemState.LIVE, verdicts.get(text_id or 0, ""))
            for text_id, row in found.items()
        }

    def score(self, texts: Sequence[str]) -> Sequence[float] | None:
        serving = serving_risk()
        return None if serving is None else serving[1].score(texts).tolist()


def make_rows(exploration: Exploration) -> None:
    """Make the item rows of the page that is opened next, from the foreign index. Raises SearchError.

    Does nothing on a site that is not attached. Called before the transaction that opens the page: it asks the engine.
    """
    engine = get_attached()
    if engine is None:
        return
    runs = QueryRun.objects.filter(exploration_query__exploration=exploration)
    ranked = [entry.ref for entry in merge(runs) if isinstance(entry.ref, str)]
    known = set(
        Item.objects.filter(platform=foreign_platform(), external_id__in=ranked).values_list("external_id", flat=True)
    )
    unknown = (external_id for external_id in ranked if external_id not in known)
    store_foreign(engine.get_many_foreign(list(islice(unknown, settings.PAGE_SIZE))))
