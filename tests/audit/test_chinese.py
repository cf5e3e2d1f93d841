"""The Chinese catalogue: every string of the pages is in it, placeholders agree, django.mo is the compiled django.po.

Nothing here needs gettext: templates are read with Django's own `templatize`, code with `ast`, both catalogues by hand.
"""

import ast
import re
import struct
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.contrib.humanize.templatetags.humanize import intcomma
from django.template.loader import render_to_string
from django.test import Client
from django.urls import reverse
from django.utils import translation
from django.utils.html import strip_tags
from django.utils.translation.template import templatize

from audit.models import Report, RunState
from audit.templatetags.audit_ui import duration, full_time
from extraction.errors import SearchUnavailable
from tests.factories import (
    make_claimed_report,
    make_complaint,
    make_exploration,
    make_item,
    make_policy,
    make_policy_version,
    make_suggestion,
)

ROOT: Path = settings.BASE_DIR
CATALOGUE = ROOT / "audit" / "locale" / "zh_Hans" / "LC_MESSAGES"
SOURCES = ("audit", "extraction", "qexplorer_site", "templates", "training")

CALL = re.compile(r"\b(_|gettext|pgettext|ngettext|npgettext)\(")
LITERAL = re.compile(r"""\s*u?("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')\s*,?""")
NAMES = {"QExplorer", "auditor", "compute", "insights", "qexplorer"}  # of the product, a login, a command
WAY_BACK = {"English", "interface"}
PLACEHOLDER = re.compile(r"%\(\w+\)[-+0-9.]*[a-z]|%%|\{\w*\}|</?\w+[^>]*>")
CONTEXT, PLURAL = "\4", "\0"  # what gettext writes between a context and its string, a string and its plural


class Message(NamedTuple):
    """A string as the source has it; `context` and `plural` are empty where there is none."""

    text: str
    context: str = ""
    plural: str = ""

    @property
    def key(self) -> str:
        """As a compiled catalogue names it."""
        context = self.context + CONTEXT if self.context else ""
        return context + self.text + (PLURAL + self.plural if self.plural else "")


def message_of(function: str, strings: list[str]) -> Message:
    """The message of a call by the arguments that are strings, in their order."""
    context = strings.pop(0) if "p" in function.partition("gettext")[0] else ""
    plural = strings[1] if function.partition("gettext")[0].startswith("n") else ""
    return Message(strings[0], context, plural)


def messages_of_template(path: Path) -> Iterator[Message]:
    source = templatize(path.read_text(encoding="utf-8"))
    for call in CALL.finditer(source):
        strings, at = [], call.end()
        while literal := LITERAL.match(source, at):
            strings.append(ast.literal_eval(literal[1]))
            at = literal.end()
        yield message_of(call[1], strings)


def messages_of_code(path: Path) -> Iterator[Message]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        name = node.func.id if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else ""
        function = name.removesuffix("_lazy")
        if isinstance(node, ast.Call) and (function == "_" or function.endswith("gettext")):
            strings = [arg.value for arg in node.args if isinstance(arg, ast.Constant) and isinstance(arg.value, str)]
            if strings:
                yield message_of(function, strings)


def messages() -> dict[Message, str]:
    """Every string of the sources, and one file that has it."""
    found = {}
    for path in sorted(path for folder in SOURCES for path in (ROOT / folder).rglob("*")):
        where = path.relative_to(ROOT).as_posix()
        read = {".html": messages_of_template, ".py": messages_of_code}.get(path.suffix)
        if read is not None:
            found.update(dict.fromkeys(read(path), where))
    return found


def compiled() -> dict[str, str]:
    """django.mo: two tables of lengths and offsets, one of the strings and one of what they become."""
    data = (CATALOGUE / "django.mo").read_bytes()
    count, strings, translations = struct.unpack_from("<3I", data, 8)

    def at(table: int, place: int) -> str:
        length, offset = struct.unpack_from("<2I", data, table + 8 * place)
        return data[offset : offset + length].decode()

    return {at(strings, place): at(translations, place) for place in range(count)}


def written() -> dict[str, str]:
    """django.po, keyed as the compiled one."""
    found = {}
    for entry in re.split(r"\n\s*\n", (CATALOGUE / "django.po").read_text(encoding="utf-8")):
        fields: dict[str, str] = {}
        name = ""
        for line in entry.splitlines():
            if line.startswith("#"):
                assert "fuzzy" not in line, entry
                continue
            word, _space, rest = line.partition(" ")
            name, quoted = (name, line) if line.startswith('"') else (word, rest)
            fields[name] = fields.get(name, "") + ast.literal_eval(quoted)
        if fields:
            message = Message(fields["msgid"], fields.get("msgctxt", ""), fields.get("msgid_plural", ""))
            found[message.key] = fields.get("msgstr[0]" if message.plural else "msgstr", "")
    return {key: text for key, text in found.items() if text}


def test_every_string_of_the_pages_is_translated() -> None:
    known = compiled()
    missing = [f"{where}: {message}" for message, where in messages().items() if not known.get(message.key)]
    assert missing == [], "translate them in django.po, then run `django-admin compilemessages` (needs gettext)"


def test_the_sources_are_read() -> None:
    found = messages()
    assert Message("Take the next report") in found
    assert Message(", ", "separator") in found
    assert Message("result", plural="results") in found
    assert Message("Normal", "text size") in found
    assert Message("%(count)d query", plural="%(count)d queries") in found


def test_the_compiled_catalogue_is_the_written_one() -> None:
    assert compiled() == written()


def test_a_translation_fills_in_what_its_string_fills_in() -> None:
    wrong = []
    for key, chinese in compiled().items():
        string = key.rpartition(CONTEXT)[2].rpartition(PLURAL)[2]
        if sorted(PLACEHOLDER.findall(string)) != sorted(PLACEHOLDER.findall(chinese)):
            wrong.append((string, chinese))
    assert wrong == []


@pytest.mark.parametrize("word", ["您", "成功", "！", "自拟", "洞察"])
def test_no_translation_uses_a_word_that_the_design_leaves_out(word: str) -> None:
    assert [text for text in compiled().values() if word in text] == []


def test_punctuation_after_han_is_full_width() -> None:
    narrow = re.compile(r"[\u4e00-\u9fff][,;:?!]|[\u4e00-\u9fff]\.(?!\w)")
    assert [text for key, text in compiled().items() if key and narrow.search(text)] == []


@pytest.fixture
def client(auditor: User, login: Callable[[User], Client]) -> Client:
    client = login(auditor)
    client.defaults["HTTP_ACCEPT_LANGUAGE"] = "zh-hans"
    return client


@pytest.fixture
def report(auditor: User) -> Report:
    """A report with a suggestion, which names nothing in Latin letters."""
    policy = make_policy(name="伪造证件", with_version=False)
    make_policy_version(policy=policy, text="不许", toxic="卖", normal="说", cant_tell="缺")
    item = make_item("各类证书代做，先看样后付款", platform="集市", external_id="内容甲", author_key="作者甲")
    report = make_claimed_report(user=auditor, item=item, policy=policy)
    make_complaint(report=report, reason="骗人")
    make_suggestion("先看样后付款", report=report)
    return report


def latin_words(page: str) -> set[str]:
    """Words of three Latin letters or more that a reader sees; names of keys are left out."""
    shown = re.sub(r"(?s)<(head|kbd|script|template)\b.*?</\1>", " ", page)
    return set(re.findall(r"[A-Za-z]{3,}", strip_tags(shown)))


@pytest.mark.django_db
@pytest.mark.usefixtures("engine_file")
def test_no_english_is_left_on_the_pages_of_an_auditor(client: Client, report: Report) -> None:
    close = [reverse("audit:close-form", args=[report.public_id, outcome]) for outcome in ("skipped", "escalated")]
    addresses = [
        *(reverse(f"audit:{name}") for name in ("queue", "keys", "history", "pool", "insights")),
        reverse("audit:report", args=[report.public_id]),
        reverse("audit:item", args=[report.item.public_id]),
        *close,
        "/nowhere/",
    ]
    left = {address: latin_words(client.get(address).content.decode()) - NAMES - WAY_BACK for address in addresses}
    assert {address: words for address, words in left.items() if words} == {}


def test_the_page_of_a_broken_step_speaks_chinese() -> None:
    with translation.override("zh-hans"):
        assert latin_words(render_to_string("500.html")) == set()


def test_numbers_and_times_are_written_as_in_chinese() -> None:
    with translation.override("zh-hans"):
        assert intcomma(12_345_678) == "12,345,678"
        assert ">2026年3月12日 14:03<" in full_time(datetime(2026, 3, 12, 14, 3, tzinfo=UTC))
        assert duration(timedelta(minutes=70)) == "1 小时 10 分"


@pytest.mark.django_db
def test_a_person_may_choose_the_other_language_and_stays_on_the_page(client: Client) -> None:
    assert 'value="en" lang="en">English interface' in client.get("/history/").content.decode()
    response = client.post("/language/", {"language": "en", "next": "/history/"})
    assert response["Location"] == "/history/"
    page = client.get("/history/").content.decode()
    assert "My history" in page
    assert 'value="zh-hans" lang="zh-Hans">中文界面' in page


@pytest.mark.django_db
def test_the_language_may_be_chosen_before_signing_in() -> None:
    client = Client()
    client.post("/language/", {"language": "zh-hans", "next": "/login/"})
    assert "登录" in client.get("/login/").content.decode()


@pytest.mark.django_db
def test_why_a_query_failed_is_read_in_chinese(client: Client, auditor: User) -> None:
    exploration = make_exploration(created_by=auditor, state=RunState.FAILED)
    exploration.queries.update(state=RunState.FAILED, error=str(SearchUnavailable.sentence))
    page = client.get(reverse("audit:exploration", args=[exploration.public_id])).content.decode()
    assert "连不上搜索引擎。没有丢失任何内容；恢复后可重新执行。" in page
