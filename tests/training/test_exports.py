"""What learning adds to the exports: builds, their rows, adapter cards, evaluations."""

import json

import pyarrow.parquet as pq
import pytest
from django.test import override_settings
from django.urls import reverse

from audit.exports import run_export
from audit.logs import STREAMS, FileRequest, Privacy, Pseudonyms, Window, get_stream, write_file
from audit.logs.reading import Part
from audit.models import Export, ExportFormat, JobState
from extraction.artifacts import DamagedArtifact, store_file
from tests import factories as make
from tests.training.small_log import MAY, confirmed, exposed, own, run_of
from training.datasets import Options, build, read_rows
from training.models import Dataset, DatasetKind

pytestmark = pytest.mark.django_db

PRIVACY = Privacy(Pseudonyms("one secret"))
BARE = Privacy(Pseudonyms("one secret"), is_masked=False)
SMALL = Options(until=MAY, min_judged_preferred=1, min_judged_dispreferred=1)
ROWS_OF = {
    DatasetKind.SFT: "sft_rows",
    DatasetKind.UNION: "sft_rows",
    DatasetKind.COMP: "preference_rows",
    DatasetKind.LIST: "ranked_rows",
}


@pytest.fixture(autouse=True)
def storage(tmp_path):
    with override_settings(MEDIA_ROOT=tmp_path / "media", VAR_DIR=tmp_path / "var"):
        yield


@pytest.fixture
def log():
    """Two similar reports, the first with a contact in its text; one phrase of them is toxic, one is not."""
    fraud = make.make_policy("fraud")
    first = confirmed("办理毕业证书加vx12345", policy=fraud)
    exposed(run_of(own(first, "毕业证书")), "他的毕业证书", "我的毕业证书", verdict="toxic")
    exposed(run_of(own(first, "vx12345")), "vx12345买", verdict="toxic")
    second = confirmed("办理毕业证书加微信二", policy=fraud)
    exposed(run_of(own(second, "加微信")), "朋友加微信", verdict="normal")


@pytest.fixture
def built(log, tmp_path):
    """`built(kind)`: a finished build of the log, in the storage."""

    def make_build(kind):
        result = build(kind, SMALL, out=tmp_path / f"{kind}.jsonl")
        return make.make_dataset(kind=kind, digest=store_file(result.path), options=SMALL.as_json())

    return make_build


def rows(name, privacy=PRIVACY):
    return list(get_stream(name).rows(privacy))


# --- rows of builds -------------------------------------------------------------------------------------------------


def comparable(row):
    """What a line of a build and a row of an export both hold, named alike."""
    same = "policy source content queries chosen_queries rejected_queries candidate_queries rewards"
    messages = "prompt completion chosen rejected candidates"
    found = {name: row[name] for name in f"{same} {messages}".split() if name in row}
    return found | {"id": row.get("id", row.get("sample"))}


@pytest.mark.parametrize("kind", ROWS_OF)
def test_without_masks_the_rows_are_those_of_the_build(built, tmp_path, kind):
    dataset = built(kind)
    exported = rows(ROWS_OF[kind], BARE)
    assert [comparable(row) for row in exported] == [comparable(row) for row in read_rows(tmp_path / f"{kind}.jsonl")]
    assert [row["line"] for row in exported] == list(range(1, len(exported) + 1))
    assert {row["dataset"] for row in exported} == {dataset.name}


@pytest.mark.parametrize("kind", ROWS_OF)
def test_contact_data_is_masked_in_text_prompt_and_answers(built, kind):
    built(kind)
    exported = json.dumps(rows(ROWS_OF[kind]), ensure_ascii=False)
    assert "vx12345" not in exported
    assert "vx‹handle›" in exported
    assert "毕业证书" in exported


def test_query_stands_in_its_masked_text_as_it_stood_in_the_text(log, tmp_path):
    report = confirmed("ＣＣ证书加vx12345，看样", policy=make.make_policy("papers"))
    own(report, "ＣＣ证书")
    result = build(DatasetKind.SFT, SMALL, out=tmp_path / "sft.jsonl")
    make.make_dataset(digest=store_file(result.path), options=SMALL.as_json())
    row = rows("sft_rows")[-1]
    assert row["queries"][0] in row["content"]
    assert rows("sft_rows", BARE)[-1]["queries"] == ["ＣＣ证书"]


def test_scores_of_preferences_stand_beside_their_counts(built):
    built(DatasetKind.COMP)
    (row,) = rows("preference_rows")
    assert len(row["chosen_queries"]) == len(row["chosen_scores"]) == len(row["chosen_counts"])
    assert all(score > 0.05 for score in row["chosen_scores"])
    assert row["rejected_scores"] == [0.0]


@pytest.mark.parametrize("kind", ROWS_OF)
@pytest.mark.parametrize("form", [ExportFormat.JSONL, ExportFormat.CSV, ExportFormat.PARQUET])
def test_rows_can_be_had_in_every_form(built, tmp_path, kind, form):
    built(kind)
    stream = get_stream(ROWS_OF[kind])
    path = tmp_path / "rows"
    manifest = write_file(FileRequest(stream, form, Window(), PRIVACY), path)
    assert manifest.rows == len(rows(stream.name)) > 0
    if form == ExportFormat.PARQUET:
        assert pq.read_table(path).to_pylist() == rows(stream.name)


def test_every_column_is_in_every_row_in_its_order(built):
    for kind in ROWS_OF:
        built(kind)
    for name in set(ROWS_OF.values()):
        assert {tuple(row) for row in rows(name)} == {tuple(get_stream(name).column_names)}


def test_reading_goes_on_inside_a_build(built):
    built(DatasetKind.SFT)
    built(DatasetKind.UNION)
    stream = get_stream("sft_rows")
    chunks = list(stream.chunks(PRIVACY, size=1))
    for number, chunk in enumerate(chunks, 1):
        before = [row for one in chunks[:number] for row in one.rows]
        after = [row for one in stream.chunks(PRIVACY, after=chunk.cursor, size=1) for row in one.rows]
        assert before + after == list(stream.rows(PRIVACY))


def test_unfinished_builds_are_left_out(built):
    dataset = built(DatasetKind.SFT)
    Dataset.objects.filter(pk=dataset.pk).update(state=JobState.RUNNING)
    assert rows("sft_rows") == rows("datasets") == []


def test_build_whose_file_is_missing_is_an_error_and_no_gap(log):
    make.make_dataset()
    with pytest.raises(DamagedArtifact):
        rows("sft_rows")


# --- cards and figures ----------------------------------------------------------------------------------------------


@pytest.fixture
def adapter():
    card = {"recipe": "small", "config": {"lr": 3e-5}, "metrics": {"loss": 0.41}}
    run = make.make_learning_run(adapter=make.make_adapter("sft-7", card=card), seed=3, user=make.make_user("ana"))
    return run.adapter


def test_adapter_comes_with_its_data_recipe_and_metrics(adapter):
    row = rows("adapters")[0]
    assert (row["adapter"], row["dataset"], row["recipe"], row["seed"]) == (
        "sft-7",
        adapter.run.dataset.name,
        "small",
        3,
    )
    assert row["card"] == adapter.card


def test_adapter_that_no_run_made_is_there_too():
    make.make_adapter("loaded")
    (row,) = rows("adapters")
    assert (row["adapter"], row["dataset"]) == ("loaded", None)


def written(name, form, tmp_path):
    path = tmp_path / name
    write_file(FileRequest(get_stream(name), form, Window(), PRIVACY), path)
    return path


def test_card_is_json_in_json_and_text_in_tables(adapter, tmp_path):
    line = written("adapters", ExportFormat.JSONL, tmp_path).read_text().splitlines()[0]
    assert json.loads(line)["card"] == adapter.card
    row = pq.read_table(written("adapters", ExportFormat.PARQUET, tmp_path)).to_pylist()[0]
    assert json.loads(row["card"]) == adapter.card


def test_card_can_be_read_as_markdown(adapter, tmp_path):
    text = written("adapters", ExportFormat.MARKDOWN, tmp_path).read_text()
    assert "\n## sft-7\n" in text
    assert "    - lr: `3e-05`\n" in text


def test_evaluation_has_its_figures_as_columns():
    figures = {"queries": 8, "effective": 4, "query_hit_rate": 0.5, "hits": 31, "precision": None, "unique": 9}
    make.make_evaluation(figures=figures, gate=[{"rule": "unique", "holds": True}])
    (row,) = rows("evaluations")
    assert {name: row[name] for name in figures} == figures
    assert row["gate"] == [{"rule": "unique", "holds": True}]


# --- by the same ways -----------------------------------------------------------------------------------------------


def test_they_are_among_what_can_be_exported():
    learning = {name for name, stream in STREAMS.items() if stream.part == Part.LEARNING}
    assert learning == {"datasets", "sft_rows", "preference_rows", "ranked_rows", "adapters", "evaluations"}


def test_researcher_gets_a_dataset_on_the_page(login, researcher, built):
    built(DatasetKind.SFT)
    client = login(researcher)
    client.post(reverse("audit:export-create"), {"key": make.make_key(), "stream": "sft_rows", "format": "jsonl"})
    export = Export.objects.get()
    run_export(export.pk)
    export.refresh_from_db()
    response = client.get(reverse("audit:export-file", args=[export.public_id]))
    body = b"".join(response.streaming_content).decode()
    assert len(body.splitlines()) == export.rows == 3
    assert "vx12345" not in body
