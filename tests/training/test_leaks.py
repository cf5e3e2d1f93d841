"""Whether an adapter learned from a near-duplicate of a test report: in its data, in those before it, in its base."""

import json
from datetime import timedelta
from pathlib import Path

import pytest
from django.utils import timezone

from audit.append_only import maintenance_pass
from audit.models import ItemText, ReportStatus
from extraction.artifacts import store_file
from tests.factories import (
    make_adapter,
    make_base,
    make_dataset,
    make_digest,
    make_evaluation_set,
    make_item,
    make_learning_run,
    make_report,
)
from training.base_model import digest_of, own_texts
from training.leaks import find_leaks
from training.models import DatasetKind

pytestmark = pytest.mark.django_db

REPORTED = "selling a forged diploma with hologram and stamp, any year, any school"
NEAR = "Selling a forged diploma with hologram and stamp, any year, any name!"
FAR = "part time work from home, deposit first, ask for the contract"


@pytest.fixture(autouse=True)
def _files(settings, tmp_path):
    settings.MEDIA_ROOT = tmp_path / "media"


@pytest.fixture
def tested():
    """A frozen set of one report, whose text came in today."""
    return make_evaluation_set("t-1", reports=[make_report(text=REPORTED, status=ReportStatus.CLOSED)])


@pytest.fixture
def learned(tmp_path: Path):
    """`learned([a, b], [c])`: an adapter whose dataset has one row a list, joined of its texts."""

    def make(*rows, start=None, base=None, **kwargs):
        lines = [json.dumps({"content": "，".join(row), "lengths": [len(text) for text in row]}) for row in rows]
        path = tmp_path / f"{make_digest()[:8]}.jsonl"
        path.write_text("".join(line + "\n" for line in lines))
        adapter = make_adapter(base=base or (start.base if start else None), parent=start, **kwargs)
        dataset = make_dataset(digest=store_file(path), kind=DatasetKind.CAT)
        make_learning_run(adapter=adapter, dataset=dataset, start=start)
        return adapter

    return make


# --- datasets -------------------------------------------------------------------------------------------------------


def test_other_texts_are_no_leak(learned, tested):
    assert not find_leaks(learned([FAR]), tested)


@pytest.mark.parametrize("text", [REPORTED, NEAR])
def test_a_near_copy_in_its_dataset_is_one(learned, tested, text):
    adapter = learned([FAR], [text])
    assert find_leaks(adapter, tested).texts == {f"dataset {adapter.run.dataset}": 1}


def test_a_near_copy_inside_a_joined_sample_is_one(learned, tested):
    assert sum(find_leaks(learned([FAR, FAR[::-1], NEAR, "nothing of that kind at all"]), tested).texts.values()) == 1


def test_a_text_that_only_quotes_the_reported_one_is_none(learned, tested):
    longer = f"{FAR}，{REPORTED}，{FAR[::-1]}，" + "and so on and on about many other things of no interest " * 3
    assert not find_leaks(learned([longer]), tested)


def test_what_it_started_from_counts_too(learned, tested):
    sft = learned([NEAR])
    dpo = learned([FAR], start=sft, kind="dpo")
    assert find_leaks(dpo, tested).texts == {f"dataset {sft.run.dataset}": 1}


def test_an_adapter_without_a_run_or_whose_rows_are_gone_cannot_be_looked_into(tested):
    untold = make_adapter("from-elsewhere")
    assert find_leaks(untold, tested).unknown == ["adapter from-elsewhere"]
    run = make_learning_run()
    assert find_leaks(run.adapter, tested).unknown == [f"dataset {run.dataset}"]


# --- the base -------------------------------------------------------------------------------------------------------

UNTIL = timezone.now() - timedelta(days=2)


def own_base(*, excluded=None, **kwargs):
    """A base that read all texts up to two days ago, without those near to `excluded`."""
    texts = own_texts(until=UNTIL, excluded=excluded, most=2_000)
    card = {"excluded": excluded.name if excluded else ""}
    return make_base(**({"data_until": UNTIL, "data_digest": digest_of(texts), "card": card} | kwargs))


def item_of_then(text):
    return make_item(text, text_at=UNTIL - timedelta(hours=1))


def test_a_base_that_read_a_near_copy_is_a_leak(learned, tested):
    item_of_then(NEAR)
    base = own_base()
    assert find_leaks(learned([FAR], base=base), tested).texts == {f"base {base}": 1}


def test_a_base_that_left_the_cluster_out_is_none(learned, tested):
    item_of_then(NEAR)
    item_of_then(FAR)
    assert not find_leaks(learned([FAR], base=own_base(excluded=tested)), tested)


def test_a_card_that_says_so_falsely_does_not_help(learned, tested):
    item_of_then(NEAR)
    liar = own_base(card={"excluded": tested.name})
    assert find_leaks(learned([FAR], base=liar), tested)


def test_what_came_in_later_was_not_read(learned, tested):
    item_of_then(FAR)
    make_item(NEAR)
    assert not find_leaks(learned([FAR], base=own_base()), tested)


def test_a_base_of_a_model_hub_has_read_none_of_our_texts(learned, tested):
    item_of_then(NEAR)
    assert not find_leaks(learned([FAR], base=make_base(profile="")), tested)


def test_an_erasure_since_does_not_make_a_clean_base_a_leak(learned, tested):
    item_of_then(NEAR)
    gone = item_of_then(FAR)
    base = own_base(excluded=tested)
    with maintenance_pass("erasure asked by the author"):
        ItemText.objects.filter(pk=gone.text_id).update(text="")
    assert not find_leaks(learned([FAR], base=base), tested)


def test_an_erasure_since_does_not_hide_a_leak(learned, tested):
    item_of_then(NEAR)
    gone = item_of_then(FAR)
    base = own_base()
    with maintenance_pass("erasure asked by the author"):
        ItemText.objects.filter(pk=gone.text_id).update(text="")
    assert find_leaks(learned([FAR], base=base), tested)
