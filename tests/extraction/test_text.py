"""The normaliser: every class of disguise, tokens, keys, places in the raw text, languages, extra folds."""

import hashlib
import json
import pickle
import random
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pytest_django.fixtures import Settings

from extraction.errors import AnalysisUnknown
from extraction.text import (
    CURRENT_ANALYSIS,
    Analysis,
    MatchMode,
    analysis_of,
    clean_text,
    detect_language,
    get_analysis,
    split_key,
    with_folds,
)

PHRASE, CHARACTERS = MatchMode.PHRASE, MatchMode.CHARACTERS
RULES = ["qx-1", "bench-zh-1", "bench-en-1"]
HOT = (
    "加微信免費ＶｘX①ﬁßſıİΣςée\u0301\u0345\u0308カﾞﾟガㄱㅏ각\u1100\u1161\u11a8"
    "\u200b\u200d\ufe0f\u20e3\u0336 \u00a0\u2028\n\x00❤👨🏽'’*_%\"\\"
)

disguised = st.text(st.one_of(st.sampled_from(HOT), st.characters(exclude_categories=["Cs"])), max_size=20)


@pytest.mark.parametrize(
    ("written", "plain"),
    [
        pytest.param("Ｖ信", "v信", id="width"),
        pytest.param("WeChat", "wechat", id="case"),
        pytest.param("Straße", "STRASSE", id="sharp s"),
        pytest.param("𝐕𝐗", "vx", id="mathematical letters"),
        pytest.param("①②③", "123", id="circled digits"),
        pytest.param("ﬁ", "fi", id="ligature"),
        pytest.param("ｶﾞ", "ガ", id="halfwidth with voicing"),
        pytest.param("加\u200b微\u2060信\ufeff", "加微信", id="zero width"),
        pytest.param("加\u00ad微", "加微", id="soft hyphen"),
        pytest.param("❤️", "❤", id="variation selector"),
        pytest.param("免費領取", "免费领取", id="traditional"),
        pytest.param("a\u00a0\u3000b", "a b", id="spaces"),
        pytest.param("e\u0301", "é", id="combining accent"),
        pytest.param("\u202e微信\u202c", "微信", id="direction marks"),
        pytest.param("微\U000e0101信", "微信", id="ideographic variation"),
    ],
)
def test_disguise_is_folded(written: str, plain: str):
    analysis = get_analysis()
    assert analysis.normalise(written) == analysis.normalise(plain)


@pytest.mark.parametrize("kept", ["shui水hu", "👨👩👧", "❤", "薇信", "\ue001"])
def test_emoji_pinyin_homophones_and_private_use_are_kept(kept: str):
    assert get_analysis().normalise(kept) == kept


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("加.微-信:VX12_3!", ["加", "微", "信", "vx12", "3"]),
        ("💰💰加我", ["💰", "💰", "加", "我"]),
        ("don't", ["don", "t"]),
        ("v̶x̶", ["vx"]),
        ("1️⃣2️⃣", ["12"]),
        ("👍🏽", ["👍"]),
        ("Привет, мир", ["привет", "мир"]),
        ("สวัสดี", list("สวัสดี")),
        ("。！ \u200b", []),
    ],
)
def test_phrase_tokens(text: str, tokens: list[str]):
    assert get_analysis().tokens(text, PHRASE) == tokens


def test_a_part_of_a_word_matches_only_in_characters_mode():
    analysis = get_analysis()
    assert not analysis.matches("my class", analysis.key("ass", PHRASE), PHRASE)
    assert analysis.matches("my class", analysis.key("ass", CHARACTERS), CHARACTERS)


def test_characters_mode_counts_spaces_and_punctuation():
    analysis = get_analysis()
    assert analysis.tokens("a  . b", CHARACTERS) == ["a", " ", ".", " ", "b"]
    assert split_key(analysis.key("a  . b", CHARACTERS), CHARACTERS) == ["a", " ", ".", " ", "b"]


def test_queries_with_one_key_are_one_query():
    analysis = get_analysis()
    assert analysis.key("加.微.信", PHRASE) == analysis.key("加 微信！", PHRASE) == "加 微 信"


def test_key_of_nothing_is_empty():
    assert get_analysis().key("。 \u200b", PHRASE) == ""


@pytest.mark.parametrize(
    ("raw", "query", "marked"),
    [
        ("请＋ 加.微_信❤️x", "信❤", ["信❤️"]),
        ("请加.微.信吧", "加微信", ["加.微.信"]),
        ("加\u200b微\u200b信", "加微信", ["加\u200b微\u200b信"]),
        ("x 𝐕𝐗 y", "vx", ["𝐕𝐗"]),
        ("ｶﾞﾝ", "ガ", ["ｶﾞ"]),
        ("ﬁne wine", "fine", ["ﬁne"]),
        ("éa e\u0301a", "éa", ["éa", "e\u0301a"]),
        ("v̶x̶12 ", "vx12", ["v̶x̶12"]),
        ("1️⃣2️⃣ ok", "12", ["1️⃣2️⃣"]),
        ("免費領取", "免费", ["免費"]),
        ("👨‍👩‍👧 ok", "👩", ["👩"]),
        ("ＡＢ\u3000\u3000ＣＤ", "ab cd", ["ＡＢ\u3000\u3000ＣＤ"]),
        ("Straße", "strasse", ["Straße"]),
        ("哈哈哈哈哈", "哈哈", ["哈哈", "哈哈"]),
        ("\U00020000𠮷信", "𠮷", ["𠮷"]),
    ],
)
def test_found_place_is_the_disguised_text(raw: str, query: str, marked: list[str]):
    analysis = get_analysis()
    found = analysis.find(raw, analysis.key(query, PHRASE), PHRASE)
    assert [raw[start:end] for start, end in found] == marked


def test_characters_mode_marks_inside_a_word():
    analysis = get_analysis()
    assert analysis.find("ab ＶX12", analysis.key("vx1", CHARACTERS), CHARACTERS) == [(3, 6)]


def test_empty_key_is_found_nowhere():
    assert get_analysis().find("加微信", "", PHRASE) == []


@pytest.mark.parametrize("name", RULES)
@settings(deadline=None, max_examples=300)
@given(text=disguised)
@example("🅰\u0301")
def test_normalising_twice_changes_nothing(name: str, text: str):
    analysis = get_analysis(name)
    assert analysis.normalise(analysis.normalise(text)) == analysis.normalise(text)


@pytest.mark.parametrize("name", RULES)
@settings(deadline=None, max_examples=300)
@given(text=disguised)
def test_spans_give_the_same_tokens_in_order_within_the_text(name: str, text: str):
    analysis = get_analysis(name)
    for mode in MatchMode:
        spans = analysis.spans(text, mode)
        assert [token.text for token in spans] == analysis.tokens(text, mode)
        assert all(0 <= token.start < token.end <= len(text) for token in spans)
        assert [token.start for token in spans] == sorted(token.start for token in spans)


@settings(deadline=None, max_examples=300)
@given(before=disguised, phrase=st.text(st.sampled_from("加微信费vx1💰"), min_size=1, max_size=5), after=disguised)
def test_what_find_marks_normalises_to_the_query(before: str, phrase: str, after: str):
    analysis = get_analysis()
    raw, key = before + phrase + after, analysis.key(phrase, CHARACTERS)
    found = analysis.find(raw, key, CHARACTERS)
    assert found
    assert all(phrase in analysis.normalise(raw[start:end]) for start, end in found)


# --- extra folds ---


def test_extra_folds_are_applied_and_named():
    analysis = with_folds("qx-1", {"薇": "微", "💰": "钱", "🅰": "A"})
    assert analysis.normalise("加薇信💰🅰") == "加微信钱a"
    assert analysis.name.startswith("qx-1+") and analysis.name != with_folds("qx-1", {"薇": "微"}).name


def test_extra_folds_keep_the_places():
    analysis = with_folds("qx-1", {"💰": "money"})
    assert analysis.find("a 💰 b", analysis.key("money", PHRASE), PHRASE) == [(2, 3)]


@pytest.mark.parametrize("table", [{"ab": "c"}, {"a": "b", "b": "c"}, {"a": ""}, {"a": "\u0301"}])
def test_extra_folds_that_cannot_work_are_refused(table: dict[str, str]):
    with pytest.raises(ValueError):
        with_folds("qx-1", table)


def test_table_of_the_site_belongs_to_the_current_analysis(settings: Settings, tmp_path: Path):
    table = tmp_path / "folds.json"
    table.write_text(json.dumps({"薇": "微"}), encoding="utf-8")
    settings.FOLDS_FILE = str(table)
    current = get_analysis()
    assert current.normalise("薇") == "微"
    assert get_analysis(current.name) == current


def test_a_table_that_the_site_no_longer_has_is_an_error():
    with pytest.raises(AnalysisUnknown):
        get_analysis("qx-1+00000000")


def test_definition_brings_the_same_analysis_back():
    analysis = with_folds("qx-1", {"薇": "微"})
    assert analysis_of(analysis.definition()) == analysis


def test_analysis_can_be_pickled():
    analysis = get_analysis()
    analysis.normalise("the tables are made")
    data = pickle.dumps(analysis)
    assert len(data) < 200
    assert pickle.loads(data).normalise("ＶＸ") == "vx"  # noqa: S301 - our own bytes


def test_unknown_rules_in_a_definition_are_an_error():
    with pytest.raises(AnalysisUnknown):
        analysis_of(json.dumps({"name": "qx-0", "folds": {}}))


# --- the suites' own rules ---


def test_bench_zh_keeps_masks_and_does_not_fold_traditional():
    tokens = get_analysis("bench-zh-1").tokens("請加VX*12,💰", PHRASE)
    assert tokens == ["請", "加", "vx", "*", "12", "💰"]


def test_bench_en_keeps_the_apostrophe_and_drops_other_scripts():
    tokens = get_analysis("bench-en-1").tokens("Don’t café 加微 *50%", PHRASE)
    assert tokens == ["don't", "caf", "*", "50"]


# --- raw text and languages ---


def test_clean_text_drops_what_no_database_stores():
    assert clean_text("a\x00b\ud800c") == "abc"


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("加我微信领取优惠", "zh-Hans"),
        ("請加我領取免費優惠", "zh-Hant"),
        ("add vx 加我领取", "zh-Hans"),
        ("add my number for free gifts", "en"),
        ("Café crème", "en"),
        ("こんにちは、世界です", "ja"),
        ("안녕하세요", "ko"),
        ("Привет, как дела", "und"),
        ("12345 !!!", "und"),
        ("", "und"),
    ],
)
def test_language_by_share_of_scripts(text: str, language: str):
    assert detect_language(text) == language


@pytest.mark.parametrize(
    ("text", "spaced"), [("add my number on 抖音 for gifts", True), ("加我vx领取abc", False), ("123", False)]
)
def test_spaced_languages_count_words(text: str, spaced: bool):
    assert get_analysis().is_spaced(text) is spaced


def test_names_are_stable():
    assert CURRENT_ANALYSIS == "qx-1"
    assert [Analysis(name).base for name in ("qx-1", "qx-1+12345678")] == ["qx-1", "qx-1"]


def test_what_is_stored_under_a_name_never_changes():
    """Stored keys and hashes rest on the rules behind a name: another output needs another name."""
    rnd = random.Random(7)
    texts = ["".join(rnd.choice(HOT) for _ in range(30)) for _ in range(200)]
    analysis = get_analysis("qx-1")
    lines = "\n".join(analysis.key(text, mode) for text in texts for mode in MatchMode)
    assert hashlib.sha256(lines.encode()).hexdigest()[:16] == "137f305291fad02d"
