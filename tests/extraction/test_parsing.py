"""Answers read as text: cut into phrases, each found in the report or dropped."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extraction.parsing import locate, split_answer
from extraction.text import MatchMode, get_analysis

QX = get_analysis("qx-1")


def phrases(answer: str) -> list[str]:
    return [part.text for part in split_answer(answer)]


# --- cutting


@pytest.mark.parametrize("separator", ["，", ",", ", ", "、", ";", "；", "\n", "\r\n", " , ", "\n\n", "|"])
def test_separators(separator):
    assert phrases(f"加微信{separator}代开发票") == ["加微信", "代开发票"]


@pytest.mark.parametrize(
    "number",
    ["1. ", "1.", "1、", "1) ", "(1) ", "（1）", "1：", "[1] ", "① ", "- ", "* ", "• ", "10. ", "  2. "],
)
def test_numbers_and_bullets(number):
    assert phrases(f"{number}加微信\n{number}代开发票") == ["加微信", "代开发票"]


@pytest.mark.parametrize(
    "quoted",
    [
        '"加微信"',
        "“加微信”",
        "'加微信'",
        "「加微信」",
        "『加微信』",
        "`加微信`",
        "**加微信**",
        '["加微信"]',
        " 加微信 ",
    ],
)
def test_quotes(quoted):
    assert phrases(quoted) == ["加微信"]


@pytest.mark.parametrize(
    "lead_in", ["关键词：", "关键词:\n", "关键词： 1. ", "- 关键词：", "Keywords: ", "keywords:\n"]
)
def test_repeated_lead_in(lead_in):
    assert phrases(f"{lead_in}加微信，代开发票") == ["加微信", "代开发票"]


def test_list_in_json():
    assert phrases('["加微信", "代开发票"]') == ["加微信", "代开发票"]


def test_comma_inside_a_number_parts_nothing():
    assert phrases("赚10,000元，日结") == ["赚10,000元", "日结"]


def test_decimal_number_is_no_numbering():
    assert phrases("3.15晚会，9.9包邮") == ["3.15晚会", "9.9包邮"]


def test_numbers_in_a_phrase_stay():
    assert phrases("24小时在线，1元购") == ["24小时在线", "1元购"]


@pytest.mark.parametrize("answer", ["", " ", "\n", "，，、", "关键词：", "1.", '""'])
def test_nothing_said_is_no_phrase(answer):
    assert phrases(answer) == []


@given(st.text(alphabet='加微信ab1. ,，、\n"“关键词：-*()（）[]①'))
def test_every_part_stands_in_the_answer_in_order(answer):
    parts = split_answer(answer)
    assert all(answer[part.start : part.end] == part.text != "" for part in parts)
    assert all(first.end <= second.start for first, second in zip(parts, parts[1:], strict=False))


# --- finding


def test_verbatim_phrase_is_found_where_it_first_stands():
    assert locate("微信", "加微信微信", QX) == (1, 3)


@pytest.mark.parametrize(
    ("phrase", "source", "found"),
    [
        ("加微信", "请加.微.信", "加.微.信"),
        ("加微信。", "请加微信！", "加微信"),
        ("免费", "全部免費送", "免費"),
        ("vx123", "加ＶＸ１２３", "ＶＸ１２３"),
        ("【加微信】", "请 加 微 信", "加 微 信"),
    ],
)
def test_phrase_in_disguise_is_found_as_it_stands(phrase, source, found):
    start, end = locate(phrase, source, QX)
    assert source[start:end] == found


@pytest.mark.parametrize("phrase", ["办证", "加微信号", "", "。", "ass "])
def test_phrase_that_the_text_does_not_say_is_not_found(phrase):
    assert locate(phrase, "请加微信 class", QX) is None


@given(st.text(max_size=6), st.text(max_size=30))
def test_what_is_found_says_the_same(phrase, source):
    found = locate(phrase, source, QX)
    if found is not None:
        there = source[found[0] : found[1]]
        assert there == phrase or QX.key(phrase, MatchMode.PHRASE) in QX.key(there, MatchMode.PHRASE)
