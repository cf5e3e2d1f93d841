"""Names of what learning makes, numbered: sft-1, sft-2, small-1 ..."""

from django.db import models

from training.models import LearningSettings


def next_name(model: type[models.Model], kind: str) -> str:
    """`comp-9` after `comp-8`. Inside a transaction: whoever numbers waits until the other has committed."""
    LearningSettings.load()
    LearningSettings.objects.select_for_update().get(pk=1)
    names = model._default_manager.filter(name__startswith=f"{kind}-").values_list("name", flat=True)
    numbers = [int(number) for name in names if (number := name.rpartition("-")[2]).isdecimal()]
    return f"{kind}-{max(numbers, default=0) + 1}"
