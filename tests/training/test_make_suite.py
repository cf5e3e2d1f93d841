"""`make_suite`: a suite from labelled texts that the benchmark can read, check and measure."""

import csv
import gzip
import json
import random
from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from training.benchmark.corpus import Columns, read_labelled
from training.benchmark.make import Labelled, make_suite
from training.benchmark.suites import IndexKind, SuiteError, load_suite

OFFERS = ["专业代办毕业证", "低价代开发票", "日结刷单兼职", "高价收购银行卡", "免费办理信用卡套现"]
ENDS = ["加微信详聊", "电话联系我", "全国可做", "先办后付", "诚信为本", "立等可取"]
TALK = ["今天天气不错", "晚上一起吃饭吗", "毕业快乐呀", "这家银行人很多", "发票记得带上", "周末兼职好累"]


def texts(number=900, seed=1):
    """A sixth toxic, in campaigns whose wording varies; some texts come twice."""
    draw = random.Random(seed)
    for place in range(number):
        toxic = place % 6 == 0
        words = [draw.choice(OFFERS if toxic else TALK), draw.choice(ENDS if toxic else TALK), draw.choice(TALK)]
        yield Labelled("，".join(words) + draw.choice(["", "吧", "啊", "呢"]), toxic, source="sms" if toxic else "chat")


@pytest.fixture(scope="module")
def made():
    return make_suite(texts(), name="mine")


@pytest.fixture
def jsonl(tmp_path):
    path = tmp_path / "texts.jsonl"
    rows = ({"content": row.text, "kind": "spam" if row.toxic else "ham", "from": row.source} for row in texts())
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return path


def run(*arguments, **options):
    out = StringIO()
    call_command(*map(str, arguments), stdout=out, stderr=StringIO(), **options)
    return out.getvalue()


def test_equal_texts_are_one_item(made):
    keys = [made.suite.analysis.key(item.text, "phrase") for item in made.suite.items]
    assert len(set(keys)) == len(keys)
    assert len(keys) + made.dropped["copies"] == 900
    assert sum(made.copies.values()) == made.dropped["copies"] > 0


def test_text_that_is_both_toxic_and_normal_is_left_out():
    rows = [*texts(), Labelled("都可以的话", True), Labelled("都可以的话！", False), Labelled("。。。", True)]
    made = make_suite(rows, name="mine")
    assert "都可以的话" not in {item.text for item in made.suite.items}
    assert (made.dropped["labelled both ways"], made.dropped["without a token"]) == (2, 1)


def test_cluster_stays_on_one_side(made):
    splits = {}
    for item in made.suite.items:
        if item.cluster:
            splits.setdefault(item.cluster, set()).add(item.split)
    assert splits
    assert all(len(own) == 1 for own in splits.values())


def test_reports_are_toxic_items_of_their_split_and_leave_something_to_find(made):
    items = {item.id: item for item in made.suite.items}
    for split in ("train", "dev", "test"):
        reports = made.suite.reports_of(split)
        toxic = [item for item in made.suite.items_of(split) if item.toxic]
        assert all(items[report.item].toxic and items[report.item].split == split for report in reports)
        assert 2 * len(reports) <= len(toxic)


def test_fresh_holds_nothing_that_the_lexicon_finds(made):
    assert made.lexicon
    for item in made.suite.index_of("test", IndexKind.FRESH):
        key = f" {made.suite.analysis.key(item.text, 'phrase')} "
        assert not any(f" {phrase} " in key for phrase in made.lexicon)


def test_lexicon_knows_the_train_split_only(made):
    toxic = [made.suite.analysis.key(i.text, "phrase") for i in made.suite.items_of("train") if i.toxic]
    assert all(sum(phrase in key for key in toxic) >= 2 for phrase in made.lexicon)


def test_one_seed_gives_one_suite(made):
    assert make_suite(texts(), name="mine").suite.items == made.suite.items
    assert make_suite(texts(), name="mine", seed=1).suite.items != made.suite.items


def test_no_toxic_text_is_an_error():
    with pytest.raises(SuiteError, match="too few toxic"):
        make_suite([Labelled("今天天气不错", False)], name="mine")


def test_command_makes_what_benchmark_checks_and_measures(jsonl, tmp_path):
    said = run("make_suite", jsonl, tmp_path / "mine", text="content", label="kind", toxic="spam", source="from")
    assert "900" not in said.splitlines()[0]
    assert load_suite(tmp_path / "mine").analysis.name == "bench-zh-1"
    checked = run("benchmark", tmp_path / "mine", check=True)
    assert "WRONG" not in checked
    assert checked.count("right") >= 4
    table = run("benchmark", tmp_path / "mine", methods="search,random,lexicon", index="std")
    assert len(table.splitlines()) == 4


def test_files_hold_what_was_made(jsonl, tmp_path):
    run("make_suite", jsonl, tmp_path / "mine", text="content", label="kind", toxic="spam", source="from")
    made = make_suite(texts(), name="mine")
    assert load_suite(tmp_path / "mine").items == made.suite.items
    assert load_suite(tmp_path / "mine").reports == made.suite.reports
    phrases = (tmp_path / "mine" / "lexicon.txt").read_text().splitlines()
    assert [made.suite.analysis.key(phrase, "phrase") for phrase in phrases] == list(made.lexicon)


def test_data_card_says_licence_sources_and_what_was_left_out(jsonl, tmp_path):
    options = {"about": "Made up for a test.", "licence": "CC0"}
    run("make_suite", jsonl, tmp_path / "mine", text="content", label="kind", toxic="spam", source="from", **options)
    card = (tmp_path / "mine" / "README.md").read_text()
    assert "Made up for a test." in card
    assert "CC0" in card
    assert "Sources: chat, sms." in card
    assert "copies" in card


def test_csv_and_gzip_are_read_too(tmp_path):
    with gzip.open(tmp_path / "texts.csv.gz", "wt", newline="") as out:
        writer = csv.writer(out)
        writer.writerows([["text", "label", "human_phrases"], ["代开发票", "1", "发票\n代开"], ["你好", "0", ""]])
    toxic, normal = read_labelled(tmp_path / "texts.csv.gz", Columns())
    assert (toxic.toxic, toxic.phrases) == (True, ("发票", "代开"))
    assert (normal.toxic, normal.phrases) == (False, ())


@pytest.mark.parametrize(
    ("line", "said"), [("{broken", "line 2: not JSON"), ("[1]", "line 2"), ('{"text": "a"}', "row 2")]
)
def test_bad_row_is_named(tmp_path, line, said):
    path = tmp_path / "texts.jsonl"
    path.write_text('{"text": "a", "label": 1}\n' + line)
    with pytest.raises(SuiteError, match=said):
        list(read_labelled(path, Columns()))


def test_command_overwrites_nothing(jsonl, tmp_path):
    with pytest.raises(CommandError, match="exists already"):
        run("make_suite", jsonl, tmp_path)
