import pytest
from django.test import override_settings

from audit.logs import Privacy, Pseudonyms
from audit.logs.masking import mask
from extraction.text import CURRENT_ANALYSIS, MatchMode, get_analysis

MASKED = Privacy(Pseudonyms("one secret"))
PLAIN = Privacy(Pseudonyms("one secret"), is_masked=False)


@pytest.mark.parametrize(
    ("written", "masked"),
    [
        ("13800138000", "‹phone›"),
        ("+86 138-0013-8000", "‹phone›"),
        ("１３８ ００１３ ８０００", "‹phone›"),
        ("1️⃣3️⃣8️⃣0️⃣0️⃣1️⃣3️⃣8️⃣", "‹phone›"),
        ("一三八零零一三八零零零", "‹phone›"),
        ("写信 foo.bar@Example.com 谢谢", "写信 ‹email› 谢谢"),
        ("看 t.me/Foo_bar 吧", "看 ‹url› 吧"),
        ("https://example.com/a?b=c", "‹url›"),
        ("@小明明 看", "‹handle› 看"),
        ("加微信xiaoming看", "加微信‹handle›看"),
        ("qq：12345", "qq:‹handle›"),
        ("vx12345", "vx‹handle›"),
        ("ＶＸ\u200b12345", "vx‹handle›"),
        ("kk8888wx", "‹handle›"),
        ("my_name_here", "‹handle›"),
    ],
)
def test_contact_data_is_masked(written, masked):
    assert mask(written) == masked


@pytest.mark.parametrize(
    "written",
    ["钢印水印齐全", "毕业证 ２０１９", "日结300-500", "加我V", "wechat payment", "Line dance", "e.g. this", "1:1还原"],
)
def test_text_without_contact_data_leaves_as_it_was_written(written):
    assert mask(written) == written


def test_a_long_text_is_masked_too():
    assert mask("字" * 5000 + " 13800138000") == "字" * 5000 + " ‹phone›"


def key_of(written, mode):
    return get_analysis(CURRENT_ANALYSIS).key(written, mode)


def test_key_of_a_query_with_contact_data_becomes_a_pseudonym_that_equal_queries_share():
    key = key_of("vx12345", MatchMode.PHRASE)
    assert MASKED.query_key("vx12345", key, "phrase") == MASKED.query_key("VX12345", key, "phrase")
    assert MASKED.query_key("vx12345", key, "phrase").startswith("query-")
    assert "12345" not in MASKED.query_key("vx12345", key, "phrase")


def test_key_in_characters_mode_is_read_as_written():
    key = key_of("13800138000", MatchMode.CHARACTERS)
    assert MASKED.query_key("13800138000", key, "characters").startswith("query-")
    assert MASKED.query_text("13800138000", key, "characters") == "‹phone›"


def test_text_is_masked_whole_where_only_its_key_gives_the_contact_away():
    assert MASKED.query_text("qq one", "vx12345", "phrase") == "‹contact›"


def test_key_without_contact_data_stays():
    assert MASKED.query_key("加微信", "加 微 信", "phrase") == "加 微 信"


def test_nothing_is_masked_without_masks():
    assert PLAIN.text("call 13800138000") == "call 13800138000"
    assert PLAIN.query_text("vx12345", "vx12345", "phrase") == "vx12345"
    assert PLAIN.query_key("vx12345", "vx12345", "phrase") == "vx12345"
    assert PLAIN.item("market", "i7") == "i7"
    assert PLAIN.complaint("market", "c7") == "c7"


def test_people_are_pseudonyms_with_and_without_masks():
    assert PLAIN.user(7) == MASKED.user(7) != "7"
    assert PLAIN.author("market", "ann") == MASKED.author("market", "ann")


def test_pseudonym_is_stable():
    assert Pseudonyms("one secret").of("user", 7) == Pseudonyms("one secret").of("user", 7)


def test_pseudonym_and_its_key_id_rotate_with_the_secret():
    old, new = Pseudonyms("one secret"), Pseudonyms("another secret")
    assert old.key_id != new.key_id
    assert old.of("user", 7).split("-")[1:] != new.of("user", 7).split("-")[1:]
    assert old.of("user", 7).split("-")[1] == old.key_id


def test_kinds_and_platforms_do_not_share_pseudonyms():
    names = {
        MASKED.reporter("market", "ann"),
        MASKED.author("market", "ann"),
        MASKED.author("forum", "ann"),
        MASKED.author("marketa", "nn"),
        MASKED.item("market", "ann"),
        MASKED.complaint("market", "ann"),
    }
    assert len(names) == 6


def test_nobody_has_no_pseudonym():
    assert MASKED.user(None) is None
    assert MASKED.author("market", "") is None
    assert MASKED.reporter("market", "") is None


@override_settings(PSEUDONYM_SECRET="the site's")
def test_secret_of_pseudonyms_is_the_sites_own():
    assert Pseudonyms.from_settings() == Pseudonyms("the site's")
