"""Bi-LSTM-CRF (QExplorer section 4.2.1): keywords by BIO tags over the engine's tokens.

Embedding and hidden size 256 (128 in each direction), 500 epochs, as the paper says; batch, optimiser and what becomes
of rare tokens it leaves open. Of the tagged phrases of a report the surest is its query; one without any gets none.

The CRF is the usual linear chain: a path of tags y scores s(y) = a[y1] + e[1, y1] + sum over t > 1 of
(A[y(t-1), y(t)] + e[t, y(t)]) + b[yT], and the loss is log Z - s(y), log Z the log-sum-exp of s over all paths.
"""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from extraction.text import MatchMode
from training.benchmark.choice import Choice, best_of_each
from training.benchmark.suites import Task
from training.benchmark.trained import Example, can_stand, examples, kept_in, need_torch, repeatable

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import ModuleDict

OUTSIDE, BEGIN, INSIDE = range(3)
PADDING, RARE = range(2)
COMMON = 2
"""Tokens that stand in fewer train reports share one embedding."""


@dataclass(frozen=True)
class Sizes:
    """Settings of a training."""

    epochs: int = 500
    embedding: int = 256
    hidden: int = 256
    batch: int = 32
    learning_rate: float = 1e-3


def bi_lstm_crf(task: Task) -> Choice:
    """The surest tagged phrase of each report, by the mean log-probability of its tags; surest first."""
    need_torch()
    tagger = _trained(task)
    rules = task.analysis
    tokens = [rules.tokens(report.text, MatchMode.PHRASE) for report in task.reports]
    found = [
        [(sureness, key) for sureness, key in own if can_stand(key, report.text, rules)]
        for report, own in zip(task.reports, tagger.phrases(tokens), strict=True)
    ]
    return best_of_each(task, found)


@dataclass(frozen=True, eq=False)
class Tagger:
    """A trained network and the numbers of the tokens that it knows."""

    network: "ModuleDict"
    vocabulary: dict[str, int]

    def phrases(self, texts: Sequence[Sequence[str]]) -> list[list[tuple[float, str]]]:
        """For each text of tokens its tagged phrases (keys), each with the mean log-probability of its tags."""
        return [list(self._phrases(tokens)) if tokens else [] for tokens in texts]

    def _phrases(self, tokens: Sequence[str]) -> Iterator[tuple[float, str]]:
        import torch

        ids, mask = _padded([[self.vocabulary.get(token, RARE) for token in tokens]])
        emissions = _emissions(self.network, ids, mask).detach().requires_grad_()
        # The gradient of log Z by the emissions is the probability of each tag at each place.
        (marginals,) = torch.autograd.grad(log_partition(self.network, emissions, mask).sum(), emissions)
        tags = viterbi(self.network, emissions.detach()[0])
        sureness = [float(marginals[0, place, tag].clamp_min(1e-9).log()) for place, tag in enumerate(tags)]
        for first, end in spans_of(tags):
            yield sum(sureness[first:end]) / (end - first), " ".join(tokens[first:end])


def train(learned: Sequence[Example], sizes: Sizes, *, seed: int) -> Tagger:
    """Train a tagger from nothing. The same rows, sizes and seed give the same one, on one thread."""
    import torch

    vocabulary = _vocabulary(learned)
    rows = [[vocabulary.get(token, RARE) for token in example.tokens] for example in learned]
    tags = [tags_of(example) for example in learned]
    by_length = sorted(range(len(rows)), key=lambda row: len(rows[row]))
    batches = [by_length[first : first + sizes.batch] for first in range(0, len(rows), sizes.batch)]
    with repeatable(seed):
        network = _network(len(vocabulary) + 2, sizes)
        optimiser = torch.optim.Adam(network.parameters(), lr=sizes.learning_rate)
        for _epoch in range(sizes.epochs):
            for number in torch.randperm(len(batches)).tolist():
                ids, mask = _padded([rows[row] for row in batches[number]])
                wanted, _mask = _padded([tags[row] for row in batches[number]])
                emissions = _emissions(network, ids, mask)
                loss = (log_partition(network, emissions, mask) - path_score(network, emissions, mask, wanted)).mean()
                optimiser.zero_grad()
                loss.backward()
                torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
                optimiser.step()
    return Tagger(network.eval(), vocabulary)


def tags_of(example: Example) -> list[int]:
    """BIO tags (T) of a report: every place of its phrases, long ones first, none over another.

    >>> tags_of(Example(tokens=("请", "加", "微", "信"), phrases=(("加", "微"), ("加", "微", "信"))))
    [0, 1, 2, 2]
    """
    tags = [OUTSIDE] * len(example.tokens)
    for phrase in sorted(example.phrases, key=len, reverse=True):
        for first in range(len(tags) - len(phrase) + 1):
            end = first + len(phrase)
            if example.tokens[first:end] == phrase and not any(tags[first:end]):
                tags[first:end] = [BEGIN] + [INSIDE] * (len(phrase) - 1)
    return tags


def spans_of(tags: Sequence[int]) -> list[tuple[int, int]]:
    """The half-open ranges that BIO tags mark; an inside tag without a beginning begins one.

    >>> spans_of([0, 1, 2, 1, 0, 2])
    [(1, 3), (3, 4), (5, 6)]
    """
    number, marks = 0, []
    for before, tag in zip([OUTSIDE, *tags], tags, strict=False):
        number += tag == BEGIN or (tag == INSIDE and before == OUTSIDE)
        marks.append(number if tag != OUTSIDE else 0)
    places = [list(group) for mark, group in groupby(range(len(tags)), key=marks.__getitem__) if mark]
    return [(own[0], own[-1] + 1) for own in places]


# --- the CRF ----------------------------------------------------------------------------------------------------------


def log_partition(network: "ModuleDict", emissions: "Tensor", mask: "Tensor") -> "Tensor":
    """log Z (B) of emissions (B, T, K), nats; mask (B, T) is true where a text has a token, from the left."""
    crf = network["crf"]
    total = crf["start"] + emissions[:, 0]
    for place in range(1, emissions.shape[1]):
        grown = (total[:, :, None] + crf["step"]).logsumexp(1) + emissions[:, place]
        total = grown.where(mask[:, place, None], total)
    return (total + crf["end"]).logsumexp(1)


def path_score(network: "ModuleDict", emissions: "Tensor", mask: "Tensor", tags: "Tensor") -> "Tensor":
    """s(y) (B) of the tags (B, T) in emissions (B, T, K)."""
    crf = network["crf"]
    steps = crf["step"][tags[:, :-1], tags[:, 1:]] * mask[:, 1:]
    emitted = emissions.gather(2, tags[:, :, None])[:, :, 0] * mask
    last = tags.gather(1, mask.sum(1, keepdim=True) - 1)[:, 0]
    return crf["start"][tags[:, 0]] + emitted.sum(1) + steps.sum(1) + crf["end"][last]


def viterbi(network: "ModuleDict", emissions: "Tensor") -> list[int]:
    """The tags of the best path through the emissions (T, K) of one text."""
    crf = network["crf"]
    best = crf["start"] + emissions[0]
    came_from = []
    for emission in emissions[1:]:
        best, before = (best[:, None] + crf["step"] + emission).max(0)
        came_from.append(before)
    tags = [int((best + crf["end"]).argmax())]
    for before in reversed(came_from):
        tags.append(int(before[tags[-1]]))
    return tags[::-1]


# --- the network ------------------------------------------------------------------------------------------------------


def _network(tokens: int, sizes: Sizes) -> "ModuleDict":
    import torch
    from torch import nn

    tags = INSIDE + 1
    crf = {
        name: nn.Parameter(torch.zeros(shape))
        for name, shape in (("start", tags), ("end", tags), ("step", (tags, tags)))
    }
    return nn.ModuleDict(
        {
            "embedding": nn.Embedding(tokens, sizes.embedding, padding_idx=PADDING),
            "lstm": nn.LSTM(sizes.embedding, sizes.hidden // 2, bidirectional=True, batch_first=True),
            "tags": nn.Linear(sizes.hidden, tags),
            "crf": nn.ParameterDict(crf),
        }
    )


def _emissions(network: "ModuleDict", ids: "Tensor", mask: "Tensor") -> "Tensor":
    """(B, T, K) of token numbers (B, T)."""
    from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

    packed = pack_padded_sequence(network["embedding"](ids), mask.sum(1), batch_first=True, enforce_sorted=False)
    states, _lengths = pad_packed_sequence(network["lstm"](packed)[0], batch_first=True)
    emissions: Tensor = network["tags"](states)
    return emissions


def _padded(rows: Sequence[Sequence[int]]) -> tuple["Tensor", "Tensor"]:
    """Numbers (B, T), padded on the right with 0, and the mask (B, T) of what is no padding."""
    import torch

    longest = max(map(len, rows))
    ids = torch.tensor([[*row, *[PADDING] * (longest - len(row))] for row in rows])
    lengths = torch.tensor([len(row) for row in rows])
    return ids, torch.arange(longest)[None, :] < lengths[:, None]


def _vocabulary(learned: Sequence[Example]) -> dict[str, int]:
    counts = Counter(token for example in learned for token in set(example.tokens))
    common = sorted(token for token, reports in counts.items() if reports >= COMMON)
    return {token: number for number, token in enumerate(common, start=RARE + 1)}


# --- kept -------------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def _trained(task: Task) -> Tagger:
    sizes = Sizes(epochs=task.options.epochs or Sizes.epochs)
    learned = examples(task.training)
    folder = kept_in(task, "bi-lstm-crf", asdict(sizes), learned)
    if not folder.exists():
        _save(train(learned, sizes, seed=task.seed), folder)
    return _load(folder, sizes)


def _save(tagger: Tagger, folder: Path) -> None:
    from safetensors.torch import save_file

    beside = folder.with_name(folder.name + ".new")
    beside.mkdir(parents=True, exist_ok=True)
    save_file(tagger.network.state_dict(), beside / "model.safetensors")
    (beside / "vocabulary.json").write_text(json.dumps(tagger.vocabulary, ensure_ascii=False), encoding="utf-8")
    beside.rename(folder)


def _load(folder: Path, sizes: Sizes) -> Tagger:
    from safetensors.torch import load_file

    vocabulary = json.loads((folder / "vocabulary.json").read_text(encoding="utf-8"))
    network = _network(len(vocabulary) + 2, sizes)
    network.load_state_dict(load_file(folder / "model.safetensors"))
    return Tagger(network.eval(), vocabulary)
