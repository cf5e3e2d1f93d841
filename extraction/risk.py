"""The risk model: a logistic regression on hashed token n-grams, fitted on what the system itself logged.

It gives r(d), the probability that an item is toxic, from nothing but the item's text: author, channel and source are
left out on purpose, because they tell where a text comes from and not what it says. Three places use it: results are
shown by risk, a phrase is pre-selected by the weights inside it, and a query is scored by the risk of what it
retrieves (`extraction.suggest`).

Training rows and their weights are the caller's choice. What was measured to work: every judged exposure and every
confirmed report at weight 1, and about 10,000 random unlabelled items as negatives at weight `UNLABELLED_WEIGHT`. On
the first day, with nothing judged, the reports stand against unlabelled items at weight 1.
"""

import io
import math
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import chain, islice, repeat
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from scipy.special import expit

from extraction.text import CURRENT_ANALYSIS, Analysis, MatchMode, get_analysis

if TYPE_CHECKING:
    from sklearn.feature_extraction import FeatureHasher

BUCKETS = 2**20
LONGEST_GRAM = 4
UNLABELLED_WEIGHT = 0.1
UNLABELLED_ROWS = 10_000

_BATCH = 2_000
_FORMAT = "qx-risk-1"


@cache
def _hasher() -> "FeatureHasher":
    """Its package takes a second to import, which every process that scores nothing would pay at its start."""
    from sklearn.feature_extraction import FeatureHasher

    return FeatureHasher(n_features=BUCKETS, input_type="pair", alternate_sign=False)


class RiskModelError(Exception):
    """Something is wrong with a risk model or with the rows that it should learn from."""


class OneClassOnly(RiskModelError):
    """The training rows are all toxic or all normal: there is nothing to tell apart."""


class DamagedModel(RiskModelError):
    """The bytes are no risk model of this format."""


@dataclass(frozen=True, eq=False)
class RiskModel:
    """Weights of the hashed n-grams; immutable, and tied to the analysis (token rule) that it was fitted with."""

    analysis: str
    weights: NDArray[np.float32]
    """(2**20,), in nats of log odds; 0 for a bucket that no training row had."""
    intercept: float

    def score(self, texts: Iterable[str]) -> NDArray[np.float64]:
        """r(d) of each raw text: probabilities (n,), in the order given. A text without a token gets the intercept."""
        analysis = get_analysis(self.analysis)
        batches = [features(batch, analysis) @ self.weights for batch in _batches(texts)]
        if not batches:
            return np.empty(0)
        return np.asarray(expit(np.concatenate(batches) + self.intercept), dtype=np.float64)

    def gram_weights(self, tokens: Sequence[str]) -> NDArray[np.float32]:
        """Weights (len(tokens), 4): row i, column n-1 is the n-gram from token i on; 0 where it would not fit."""
        table = np.zeros((len(tokens), LONGEST_GRAM), dtype=np.float32)
        for n in range(1, min(LONGEST_GRAM, len(tokens)) + 1):
            grams = _hashed([gram] for gram in _grams_of_length(tokens, n))
            table[: len(tokens) - n + 1, n - 1] = self.weights[grams.indices]
        return table

    def weight_of(self, tokens: Sequence[str]) -> float:
        """Sum of the weights of all 1-4-grams inside a phrase, each occurrence counted."""
        return float(self.gram_weights(tokens).sum())


def features(texts: Sequence[str], analysis: Analysis) -> csr_matrix:
    """Rows (n, 2**20) of raw texts: counts of hashed token 1-4-grams, damped to 1 + ln tf, each row of length 1."""
    from sklearn.preprocessing import normalize

    counts = _hashed(_grams(analysis.tokens(text, MatchMode.PHRASE)) for text in texts)
    counts.data = 1.0 + np.log(counts.data)
    return csr_matrix(normalize(counts, norm="l2", copy=False))


def fit(
    texts: Sequence[str],
    labels: Sequence[int] | NDArray[np.int_],
    weights: Sequence[float] | NDArray[np.float64],
    *,
    analysis: str = CURRENT_ANALYSIS,
    c: float = 10.0,
    seed: int = 0,
) -> RiskModel:
    """Fit on raw texts (n), labels (n; 1 toxic, 0 normal) and row weights (n, above 0). About a second at 20,000 rows.

    Minimises ||w||^2 / 2 + c * sum of weight * log loss, by dual coordinate descent (the same optimum as L-BFGS, in a
    fiftieth of the time on these rows); the solver counts the intercept as one more weight. Only buckets that occur
    are fitted, the rest stay at 0. Classes get no weights: measured, they change nothing. The same rows and seed give
    the same model. Raises `OneClassOnly`, and ValueError when the lengths differ.
    """
    target = np.asarray(labels, dtype=np.int8)
    if not len(texts) == len(target) == len(weights):
        raise ValueError(
            f"{len(texts)} texts, {len(target)} labels and {len(weights)} weights: not one of each per row"
        )
    if len(np.unique(target)) < 2:
        raise OneClassOnly("The risk model needs toxic and normal texts to learn from; it was given only one kind.")
    rules = get_analysis(analysis)
    rows = features(texts, rules)
    occurring, columns = np.unique(rows.indices, return_inverse=True)
    compact = csr_matrix((rows.data, columns.astype(np.int32), rows.indptr), shape=(rows.shape[0], len(occurring)))
    from sklearn.linear_model import LogisticRegression

    regression = LogisticRegression(C=c, solver="liblinear", dual=True, tol=1e-3, max_iter=1_000, random_state=seed)
    regression.fit(compact, target, sample_weight=np.asarray(weights, dtype=np.float64))
    learned = np.zeros(BUCKETS, dtype=np.float32)
    learned[occurring] = regression.coef_[0]
    learned.flags.writeable = False
    return RiskModel(analysis=rules.name, weights=learned, intercept=float(regression.intercept_[0]))


def log_loss(model: RiskModel, texts: Sequence[str], labels: Sequence[int] | NDArray[np.int_]) -> float:
    """Mean negative log likelihood in nats of labels (n; 1 toxic, 0 normal); lower is better, ln 2 is a coin.

    Raises ValueError without a row: a loss of nothing must not pass for a good one.
    """
    if not len(texts):
        raise ValueError("log_loss needs at least one held-out text")
    target = np.asarray(labels, dtype=np.float64)
    tiny = np.finfo(np.float64).eps
    probability = np.clip(model.score(texts), tiny, 1.0 - tiny)
    return float(-np.mean(target * np.log(probability) + (1.0 - target) * np.log1p(-probability)))


def dumps(model: RiskModel) -> bytes:
    """The model as an npz archive of its non-zero weights; equal models give equal bytes, so a digest names them."""
    buckets = np.flatnonzero(model.weights).astype(np.uint32)
    out = io.BytesIO()
    np.savez_compressed(
        out,
        allow_pickle=False,
        format=np.array(_FORMAT),
        analysis=np.array(model.analysis),
        intercept=np.array(model.intercept),
        buckets=buckets,
        weights=model.weights[buckets],
    )
    return out.getvalue()


def loads(data: bytes) -> RiskModel:
    """Read what `dumps` wrote; nothing in it can run code. Raises `DamagedModel`."""
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            if str(archive["format"]) != _FORMAT:
                raise DamagedModel(f"The risk model has format {archive['format']}; this version reads {_FORMAT}.")
            weights = np.zeros(BUCKETS, dtype=np.float32)
            weights[archive["buckets"]] = archive["weights"]
            analysis, intercept = str(archive["analysis"]), float(archive["intercept"])
    except (OSError, EOFError, ValueError, KeyError, IndexError, zipfile.BadZipFile) as error:
        raise DamagedModel("The stored risk model cannot be read; go back to the version before it.") from error
    if not (math.isfinite(intercept) and np.isfinite(weights).all()):
        raise DamagedModel("The stored risk model holds weights that are no numbers.")
    weights.flags.writeable = False
    return RiskModel(analysis=analysis, weights=weights, intercept=intercept)


def _batches(texts: Iterable[str]) -> Iterator[list[str]]:
    rest = iter(texts)
    while batch := list(islice(rest, _BATCH)):
        yield batch


def _hashed(rows: Iterable[Iterable[str]]) -> csr_matrix:
    """Counts of the hashed grams of each row. Pairs made here, in C, are a quarter faster than the hasher's own."""
    return csr_matrix(_hasher().transform(zip(grams, repeat(1), strict=False) for grams in rows))


def _grams(tokens: Sequence[str]) -> Iterator[str]:
    return chain.from_iterable(_grams_of_length(tokens, n) for n in range(1, LONGEST_GRAM + 1))


def _grams_of_length(tokens: Sequence[str], n: int) -> Iterator[str]:
    return map(" ".join, zip(*(tokens[i:] for i in range(n)), strict=False))
