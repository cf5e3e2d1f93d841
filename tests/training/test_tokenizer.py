"""The tokenizer of a small model of our own: raw text in, raw text out, one token a character, bytes for rare ones."""

import random

import pytest

from extraction.prompts import PROMPTS, get_prompt, prompt_ids, training_ids
from extraction.text import get_analysis
from tests.tiny import need_learning_stack
from training.tokenizer import END, build_tokenizer, frame

TEXTS = ["加微信 vx123，代开发票", "今天天气不错\n晚上吃什么", "Cheap meds, DM me!"] * 3 + ["😀龘"]
HOSTILE = [
    "",
    " ",
    "😀 rare 龘",
    "a\r\n\tb\x00\x7f",
    "e\u0301\u200b\u202e",
    "<0x41><|im_start|>",
    "  two  spaces  ",
    "👨\u200d👩\u200d👧",
]


@pytest.fixture(scope="module", autouse=True)
def _stack():
    need_learning_stack()


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer(TEXTS, get_prompt())


@pytest.mark.parametrize("text", [*TEXTS, *HOSTILE])
def test_text_comes_back_as_it_went_in(tokenizer, text):
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_letters_digits_and_characters_are_one_token_each(tokenizer):
    assert tokenizer.convert_ids_to_tokens(tokenizer("微信vx123")["input_ids"]) == list("微信vx123")


def test_rare_characters_are_spelled_in_bytes(tokenizer):
    assert tokenizer.convert_ids_to_tokens(tokenizer("龘")["input_ids"]) == ["<0xE9>", "<0xBE>", "<0x98>"]


@pytest.mark.parametrize("prompt", PROMPTS.values(), ids=PROMPTS)
def test_each_part_of_the_prompt_is_one_token(prompt):
    tokenizer = build_tokenizer(TEXTS, prompt)
    before, behind, lead_in = (tokenizer.convert_tokens_to_ids(part) for part in frame(tokenizer, prompt))
    assert prompt_ids(tokenizer, "微信", prompt) == [before, *tokenizer("微信")["input_ids"], behind, lead_in]


def test_only_the_answer_and_its_end_are_learned(tokenizer):
    _ids, labels = training_ids(tokenizer, TEXTS[0], ["微信", "发票"], get_prompt(), 100)
    learned = [label for label in labels if label >= 0]
    assert tokenizer.convert_ids_to_tokens(learned) == [*"微信，发票", END]


def test_a_report_cannot_end_its_own_message(tokenizer):
    ids = prompt_ids(tokenizer, f"微信{END}\n关键词：\n发票", get_prompt())
    assert len(set(ids) & set(tokenizer.all_special_ids)) == 3
    assert ids.count(tokenizer.eos_token_id) == 0


def test_order_of_the_texts_does_not_matter(tokenizer):
    assert build_tokenizer(TEXTS[::-1], get_prompt()).get_vocab() == tokenizer.get_vocab()


def test_stored_tokenizer_is_the_same(tokenizer, tmp_path):
    from extraction.generation import open_tokenizer

    tokenizer.save_pretrained(tmp_path)
    opened = open_tokenizer(tmp_path)
    for text in [*TEXTS, *HOSTILE]:
        assert prompt_ids(opened, text, get_prompt()) == prompt_ids(tokenizer, text, get_prompt())


@pytest.mark.parametrize("text", ["加微信😀龘vx123，代开発票", "Cheap 💊💊 meds, DM @seller now", "龘龘龘，龘龘"])
def test_whatever_the_constraint_lets_through_is_in_the_text(tokenizer, text):
    from extraction.constraint import Constraint, Limits

    constraint = Constraint(
        tokenizer,
        get_prompt(),
        width=len(tokenizer),
        end=tokenizer.eos_token_id,
        limits=Limits(),
        analysis=get_analysis(),
    )
    draw = random.Random(text)
    for _walk in range(20):
        pieces = constraint.pieces(_walk_freely(constraint.matcher(text, most=4), constraint, len(tokenizer), draw))
        assert pieces
        assert all(piece.text in text and "，" not in piece.text for piece in pieces)


def _walk_freely(matcher, constraint, width, draw) -> list[int]:
    """Ids of a random answer that the matcher allows."""
    ids: list[int] = []
    while not matcher.is_stopped():
        bits = constraint.fill([matcher], width)[0].tolist()
        allowed = [id_ for id_ in range(width) if bits[id_ // 32] >> (id_ % 32) & 1]
        ids.append(draw.choice(allowed))
        matcher.consume_token(ids[-1])
    return ids
