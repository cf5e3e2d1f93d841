"""KESR's ranker (eq. 6, 7) against the risk alone: in which order should the results of a query be shown? A script:

    python tests/benchmarks/bench_ranker.py SUITE [--split dev]

    score(report, item) = a · logit r(d) + c · sim + b
    sim = α · s_report + (1 − α) · s_phrases,   α = σ(w₁ · s_report + w₂ · s_phrases + w₀)

s is the cosine of TF-IDF vectors over hashed token 1-4-grams; KESR has trained encoders and no risk. A report's phrases
are the best three of what `search` tries, by the risk weights inside them. The six numbers are learned from the
simulated log: what people saw for each train report, and the verdicts on it. Measured on the queries that `search`
plays and that have at least ten matches, of both kinds: average precision of all matches, precision of the first ten.
"""

import argparse
import os
import random
import sys
import tempfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.sparse import csr_matrix
from scipy.special import expit

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "qexplorer_site.settings")

import django  # noqa: E402

django.setup()

from extraction import risk  # noqa: E402
from extraction.suggest import QUERIES_PER_REPORT, candidates  # noqa: E402
from extraction.text import Analysis  # noqa: E402
from training.benchmark.evaluator import Bench  # noqa: E402
from training.benchmark.logged import logged_queries  # noqa: E402
from training.benchmark.readings import risk_of  # noqa: E402
from training.benchmark.suggester import search  # noqa: E402
from training.benchmark.suites import IndexKind, Task, Training, load_suite  # noqa: E402

FEWEST = 10
"""A query with fewer matches is read to its end in any order."""

PAGE = 10
DRAWS = 2_000

ROWS = 30_000
"""Exposures of the log that the ranker learns from, drawn evenly where there are more."""

FOLDS = 5
"""A train item's risk comes from a model that did not learn from it: otherwise risk would look better than it is."""

L2 = 1e-4

Vector = NDArray[np.float64]


@dataclass(frozen=True)
class Ranker:
    """The six numbers: of the risk, of the similarity, the intercept, and w₁, w₂, w₀ of the gate."""

    numbers: tuple[float, ...]

    def score(self, logits: Vector, to_report: Vector, to_phrases: Vector) -> Vector:
        """Log odds (N,) that an item is toxic, from the logit of its risk (N,) and its two similarities (N,)."""
        a, c, b, w1, w2, w0 = self.numbers
        gate = expit(w1 * to_report + w2 * to_phrases + w0)
        return np.asarray(a * logits + c * (gate * to_report + (1 - gate) * to_phrases) + b)


def fit_ranker(logits: Vector, to_report: Vector, to_phrases: Vector, labels: Vector) -> Ranker:
    """The ranker of least log loss, plus L2 on all but the intercept; begins as the risk alone.

    All are (N,); labels are 1 for a toxic item, 0 for a normal one.
    """

    def loss(numbers: Vector) -> float:
        odds = Ranker(tuple(numbers)).score(logits, to_report, to_phrases)
        return float(np.mean(np.logaddexp(0.0, odds) - labels * odds) + L2 * (numbers @ numbers - numbers[2] ** 2))

    found = minimize(loss, np.array([1.0, 0.0, 0.0, 0.0, 0.0, 0.0]), method="L-BFGS-B")
    return Ranker(tuple(found.x.tolist()))


@dataclass(frozen=True, eq=False)
class Vectors:
    """TF-IDF vectors of length 1 over the hashed n-grams of the risk model."""

    weights: NDArray[np.float64]
    """(2**20,), the inverse document frequency among the train items."""
    analysis: Analysis

    @classmethod
    def of(cls, training: Training) -> "Vectors":
        rows = risk.features([item.text for item in training.items], training.analysis)
        counts = np.bincount(rows.indices, minlength=risk.BUCKETS)
        return cls(np.log((1 + rows.shape[0]) / (1 + counts)) + 1, training.analysis)

    def rows(self, texts: Sequence[str]) -> csr_matrix:
        from sklearn.preprocessing import normalize

        rows = risk.features(texts, self.analysis)
        rows.data = rows.data * self.weights[rows.indices]
        return csr_matrix(normalize(rows, norm="l2", copy=False))


def learn(training: Training, vectors: Vectors, model: risk.RiskModel, seed: int) -> Ranker:
    """The ranker of a train split. `model`: the risk model of the simulated log."""
    shown = list(_exposures(training))
    if not shown:
        raise SystemExit("The simulated log is empty: there is nothing to learn a ranker from.")
    draw = random.Random(seed)  # noqa: S311 - a sample, not a secret
    rows = sorted(draw.sample(shown, min(ROWS, len(shown))))
    items = sorted({item for _report, item in rows})
    texts = vectors.rows([training.searcher.text_of(item) for item in items])
    logits = _out_of_fold(training, items, seed)
    row_of = {item: place for place, item in enumerate(items)}
    picked = [row_of[item] for _report, item in rows]
    reports = vectors.rows([report.text for report in training.reports])
    phrases = vectors.rows([_phrases(report.text, training.analysis, model) for report in training.reports])
    places = [report for report, _item in rows]
    return fit_ranker(
        logits[picked],
        _paired(texts[picked], reports[places]),
        _paired(texts[picked], phrases[places]),
        np.array([float(item in training.toxic) for _report, item in rows]),
    )


def _exposures(training: Training) -> Iterator[tuple[int, int]]:
    """(place of the report, id of an item) that people saw for it, each once, without the reported item."""
    queries = logged_queries(training)
    for place, report in enumerate(training.reports):
        found = {item for query in queries[report.id] for item in training.searcher.find(query).ids}
        yield from ((place, item) for item in sorted(found - {report.item}))


def _out_of_fold(training: Training, items: Sequence[int], seed: int) -> Vector:
    """logit r(d) (N,) of each item by a model fitted on the other folds."""
    texts = [training.searcher.text_of(item) for item in items]
    labels = np.array([int(item in training.toxic) for item in items])
    folds = np.array([zlib.crc32(str(item).encode()) % FOLDS for item in items])
    logits = np.zeros(len(items))
    for fold in range(FOLDS):
        held_out, rest = np.flatnonzero(folds == fold), np.flatnonzero(folds != fold)
        model = risk.fit(
            [texts[place] for place in rest],
            labels[rest],
            np.ones(len(rest)),
            analysis=training.analysis.name,
            seed=seed,
        )
        logits[held_out] = _logit(model.score(texts[place] for place in held_out))
    return logits


def _phrases(text: str, analysis: Analysis, model: risk.RiskModel) -> str:
    """The best phrases of a text as one text; the few n-grams that go across two of them match next to nothing."""
    tried = candidates(text, analysis=analysis, risk=model)[:QUERIES_PER_REPORT]
    return "\n".join(candidate.text for candidate in tried)


def _logit(risks: Vector) -> Vector:
    clipped = np.clip(risks, 1e-9, 1 - 1e-9)
    return np.asarray(np.log(clipped / (1 - clipped)))


def _dot(items: csr_matrix, one: csr_matrix) -> Vector:
    return np.asarray((items @ one.T).toarray()).ravel()


def _paired(left: csr_matrix, right: csr_matrix) -> Vector:
    """Row by row."""
    return np.asarray(left.multiply(right).sum(axis=1)).ravel()


# --- what is measured -----------------------------------------------------------------------------------------------


def compare(task: Task, verdicts: Mapping[int, bool]) -> str:
    """One line: average precision / precision of the first ten by each order; gate minus risk with its interval."""
    model, vectors = risk_of(task), Vectors.of(task.training)
    ranker = learn(task.training, vectors, model, task.seed)
    texts = {report.id: report.text for report in task.reports}
    rows = []
    for query in search(task).queries:
        ids = task.searcher.all_of(query.text)
        labels = np.array([verdicts[item] for item in ids])
        if len(ids) < FEWEST or labels.all() or not labels.any():
            continue
        report = texts[query.report]
        own = [task.searcher.text_of(item) for item in ids]
        logits, items = _logit(model.score(own)), vectors.rows(own)
        to_report = _dot(items, vectors.rows([report]))
        to_phrases = _dot(items, vectors.rows([_phrases(report, task.analysis, model)]))
        orders = [-np.arange(len(ids)), logits, ranker.score(logits, to_report, to_phrases), to_report, to_phrases]
        ranked = [labels[np.argsort(-order, kind="stable")] for order in orders]
        rows.append([[_average_precision(own), own[:PAGE].mean()] for own in ranked])
    measured = np.array(rows)
    difference = measured[:, 2, 0] - measured[:, 1, 0]
    draw = np.random.default_rng(task.seed)
    drawn = [draw.choice(difference, len(difference)).mean() for _ in range(DRAWS)]
    low, high = np.percentile(drawn, [2.5, 97.5])
    means = ", ".join(
        f"{name} {precision:.3f} / {first:.3f}"
        for name, (precision, first) in zip(
            ("newest", "risk", "gate", "report", "phrases"), measured.mean(axis=0), strict=True
        )
    )
    return f"{len(rows)} queries; {means}; gate - risk {difference.mean():+.4f} ({low:+.4f} to {high:+.4f})"


def _average_precision(ranked: NDArray[np.bool_]) -> float:
    return float((np.cumsum(ranked) / np.arange(1, len(ranked) + 1))[ranked].mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("suite", type=Path)
    parser.add_argument("--split", default="test", choices=["dev", "test"])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="qx-ranker-") as work:
        bench = Bench(load_suite(options.suite), Path(work))
        for kind in (IndexKind.FRESH, IndexKind.STD):
            answers = bench.suite.answers(options.split, kind)
            line = compare(bench.task(options.split, kind), answers.verdicts)
            sys.stdout.write(f"{bench.suite.name}, {options.split}, {kind}: {line}\n")


if __name__ == "__main__":
    main()
