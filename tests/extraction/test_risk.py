"""The risk model: what it learns, that it is the same every time, and how it is stored."""

import io
import math
import pickle
import time

import numpy as np
import pytest

from extraction import risk
from extraction.text import get_analysis

TOXIC = ["加微信办毕业证", "办毕业证加薇", "快速办证 加微信", "代办毕业证 包查", "专业办毕业证加微信"]
NORMAL = ["今天天气不错", "晚上吃什么", "毕业快乐", "这本书很好看", "周末去爬山吗", "加油加油"]


def fitted(**kwargs) -> risk.RiskModel:
    texts = TOXIC + NORMAL
    return risk.fit(texts, [1] * len(TOXIC) + [0] * len(NORMAL), [1.0] * len(texts), **kwargs)


def test_toxic_text_scores_higher_than_normal_text():
    scores = fitted().score(["代办毕业证加微信", "今天吃什么"])
    assert scores[0] > 0.5 > scores[1]


def test_scores_are_probabilities_in_the_order_given():
    model = fitted()
    together = model.score(TOXIC + NORMAL)
    assert together.shape == (len(TOXIC) + len(NORMAL),)
    assert ((together > 0) & (together < 1)).all()
    assert together.tolist() == pytest.approx([float(model.score([text])[0]) for text in TOXIC + NORMAL])


def test_more_texts_than_one_batch_keep_their_order(monkeypatch):
    model = fitted()
    whole = model.score(TOXIC + NORMAL)
    monkeypatch.setattr(risk, "_BATCH", 3)
    assert model.score(iter(TOXIC + NORMAL)).tolist() == whole.tolist()


def test_no_texts_give_no_scores():
    assert fitted().score([]).shape == (0,)


def test_text_without_a_token_gets_the_intercept():
    model = fitted()
    assert model.score(["。。。"])[0] == pytest.approx(1 / (1 + math.exp(-model.intercept)))


def test_disguised_text_scores_like_the_plain_one():
    plain, disguised = fitted().score(["办毕业证加微信", "办.毕 業\u200b证、加微信"])
    assert plain == disguised


def test_rows_have_length_one_and_damped_counts():
    rows = risk.features(["好好好"], get_analysis())
    assert rows.shape == (1, risk.BUCKETS)
    counts = 1 + np.log([3, 2, 1])  # 好 three times, 好好 twice, 好好好 once
    assert sorted(rows.data) == pytest.approx(sorted(counts / np.linalg.norm(counts)))


def test_hash_of_a_gram_never_changes():
    """A stored model is useless if a gram moves to another bucket; these are murmur3 values, seed 0."""
    assert risk.features(["微信"], get_analysis()).indices.tolist() == [730050, 735213, 1021275]


def test_same_rows_give_the_same_bytes():
    assert risk.dumps(fitted()) == risk.dumps(fitted())


def test_row_of_low_weight_counts_for_less():
    texts, labels = [*TOXIC, *NORMAL, "办毕业证加微信"], [1] * len(TOXIC) + [0] * (len(NORMAL) + 1)
    full = risk.fit(texts, labels, [1.0] * len(texts))
    low = risk.fit(texts, labels, [1.0] * (len(texts) - 1) + [0.01])
    assert low.score(["办毕业证加微信"])[0] > full.score(["办毕业证加微信"])[0]


def test_one_class_alone_is_refused():
    with pytest.raises(risk.OneClassOnly):
        risk.fit(TOXIC, [1] * len(TOXIC), [1.0] * len(TOXIC))


def test_unequal_lengths_are_refused():
    with pytest.raises(ValueError, match="not one of each"):
        risk.fit(TOXIC, [1, 0], [1.0] * len(TOXIC))


def test_weight_of_a_phrase_is_the_sum_over_its_grams():
    model = fitted()
    tokens = ["毕", "业", "证"]
    grams = [["毕"], ["业"], ["证"], ["毕", "业"], ["业", "证"], ["毕", "业", "证"]]
    alone = [model.gram_weights(gram)[0, len(gram) - 1] for gram in grams]
    assert model.weight_of(tokens) == pytest.approx(float(sum(alone)), rel=1e-5)
    assert model.weight_of(tokens) > 0 > model.weight_of(["天", "气"])


def test_weight_of_nothing_is_zero():
    assert fitted().weight_of([]) == 0.0


def test_stored_model_scores_the_same():
    model = fitted(analysis="bench-zh-1")
    again = risk.loads(risk.dumps(model))
    assert again.analysis == "bench-zh-1"
    assert again.score(TOXIC + NORMAL).tolist() == model.score(TOXIC + NORMAL).tolist()


def test_stored_model_is_small():
    assert len(risk.dumps(fitted())) < 10_000


def test_model_cannot_be_changed_in_place():
    with pytest.raises(ValueError, match="read-only"):
        fitted().weights[0] = 1.0


@pytest.mark.parametrize("data", [b"", b"no archive", risk.dumps(fitted())[:-30], pickle.dumps({"weights": 1})])
def test_damaged_bytes_are_refused(data):
    with pytest.raises(risk.DamagedModel):
        risk.loads(data)


def test_pickled_array_is_not_unpickled():
    out = io.BytesIO()
    np.savez(out, format=np.array([object()], dtype=object))
    with pytest.raises(risk.DamagedModel):
        risk.loads(out.getvalue())


def test_other_format_is_named_in_the_refusal():
    out = io.BytesIO()
    np.savez(out, format=np.array("qx-risk-9"))
    with pytest.raises(risk.DamagedModel, match="qx-risk-9"):
        risk.loads(out.getvalue())


def test_log_loss_of_known_probabilities():
    model = risk.RiskModel(analysis="qx-1", weights=np.zeros(risk.BUCKETS, dtype=np.float32), intercept=math.log(3))
    assert risk.log_loss(model, ["甲", "乙"], [1, 0]) == pytest.approx(-(math.log(0.75) + math.log(0.25)) / 2)


def test_log_loss_of_a_sure_mistake_is_finite():
    model = risk.RiskModel(analysis="qx-1", weights=np.zeros(risk.BUCKETS, dtype=np.float32), intercept=900.0)
    assert 30 < risk.log_loss(model, ["甲"], [0]) < 40


def test_log_loss_of_nothing_is_refused():
    with pytest.raises(ValueError, match="at least one"):
        risk.log_loss(fitted(), [], [])


def test_scoring_takes_at_most_a_few_hundred_microseconds_an_item():
    """Measured: 50-60 µs an item; the bound leaves room for a busy machine."""
    model, texts = fitted(), [text * 4 for text in TOXIC + NORMAL] * 100
    began = time.process_time()
    model.score(texts)
    assert (time.process_time() - began) / len(texts) < 500e-6
