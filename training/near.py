"""Which texts are nearly the same (splits), and which are similar (groups for D_cat and D_comp).

*Near-duplicates* share at least half of their token 3-grams (Jaccard), linked through each other (single link), as in
the labelled suites: no such cluster may lie on both sides of a split. Nothing is sketched or sampled.

*Groups* are wider: texts of one policy with similar words, ten different ones each on average. Counts of token
1-2-grams are reduced to 32 numbers (TruncatedSVD, fitted on a sample), the texts of a policy are cut by mini-batch
k-means until a cell has at most 2,000, and in each cell the nearest are joined (Ward) until its groups have that size.
Only those numbers are kept, in a file, so that a million texts need little memory.

docs/decisions/0017-split-by-cluster.md has the reasons and what was measured.
"""

import hashlib
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import IO, TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, vstack
from scipy.sparse.csgraph import connected_components

from extraction.text import Analysis, MatchMode, get_analysis

if TYPE_CHECKING:
    from sklearn.decomposition import TruncatedSVD

NEAR = 0.5
"""Jaccard index of the 3-gram sets from which on two texts are nearly the same."""
LINK_GRAM = 3
GROUP_SIZE = 10
"""Different texts of a group on average; the paper's 25,772 pairs in 2,378 groups are 10.8."""

_BATCH = 2_000
_MANY = 2**31 - 1  # so many columns that two grams of one corpus practically never share one
_CANDIDATES = 4_000_000
_CHECKED = 20_000

_COLUMNS = 2**16
_WIDTH = 32
_SAMPLE = 20_000
_CELL = 2_000
_BRANCHES = 64

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]
T = TypeVar("T")


# --- near-duplicates ------------------------------------------------------------------------------------------------


def near_duplicate_clusters(texts: Mapping[int, str], *, analysis: Analysis | None = None) -> dict[int, str]:
    """The cluster of each text, by id. Its key is the smallest SHA-256 of the normalised texts in it, so it depends
    neither on ids nor on their order; a text that joins a cluster can change the key.

    A text without a token is nobody's duplicate: it is a cluster of its own, named by its id.

    >>> clusters = near_duplicate_clusters({1: "加微信 abc 办证", 2: "加.微.信 abc 办证！", 3: "出售二手书桌"})
    >>> clusters[1] == clusters[2], clusters[1] == clusters[3]
    (True, False)
    """
    rules = analysis or get_analysis()
    keys = {id_: rules.key(text, MatchMode.PHRASE) for id_, text in texts.items()}
    distinct = sorted({key for key in keys.values() if key})
    digests = [_digest(key) for key in distinct]
    labels = _linked(_gram_sets(distinct)).tolist()
    smallest: dict[int, str] = {}
    for label, digest in zip(labels, digests, strict=True):
        smallest[label] = min(digest, smallest.get(label, digest))
    cluster_of = {key: smallest[label] for key, label in zip(distinct, labels, strict=True)}
    return {id_: cluster_of[key] if key else _digest(f"no token: {id_}") for id_, key in keys.items()}


def near_to(
    seeds: Iterable[str], texts: Iterable[tuple[int, str]], *, analysis: Analysis | None = None
) -> frozenset[int]:
    """Ids of the texts that lie in a near-duplicate cluster with one of the seeds, linked through other texts too.

    Each round compares all texts with those that the round before found. Memory: 5 bytes a different 3-gram of a text.
    """
    rules = analysis or get_analysis()
    frontier = _gram_sets(key for text in seeds if (key := rules.key(text, MatchMode.PHRASE)))
    ids: list[int] = []
    parts: list[csr_matrix] = []
    for batch in _batches(texts, _BATCH):
        ids += [id_ for id_, _text in batch]
        parts.append(_gram_sets(rules.key(text, MatchMode.PHRASE) for _id, text in batch))
    is_found = [np.zeros(part.shape[0], dtype=bool) for part in parts]
    while frontier.shape[0] and parts:
        reached = []
        for part, found in zip(parts, is_found, strict=True):
            new = _is_near(part, frontier) & ~found
            found |= new
            reached.append(part[new])
        frontier = csr_matrix(vstack(reached))
    flags = np.concatenate(is_found) if is_found else ()
    return frozenset(id_ for id_, found in zip(ids, flags, strict=True) if found)


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def _gram_sets(keys: Iterable[str]) -> csr_matrix:
    """Rows (n, _MANY) of ones: the different token 3-grams of each key; a shorter one is one gram as it is."""
    from sklearn.feature_extraction import FeatureHasher

    hasher = FeatureHasher(n_features=_MANY, input_type="string", alternate_sign=False)
    rows = list(keys)
    if not rows:
        return csr_matrix(np.empty((0, _MANY), dtype=np.int8))
    sets = csr_matrix(hasher.transform(_link_grams(key.split()) for key in rows))
    sets.data = np.ones(len(sets.data), dtype=np.int8)
    return sets


def _link_grams(tokens: Sequence[str]) -> list[str]:
    if len(tokens) < LINK_GRAM:
        return [" ".join(tokens)] if tokens else []
    return [" ".join(tokens[at : at + LINK_GRAM]) for at in range(len(tokens) - LINK_GRAM + 1)]


def _is_near(rows: csr_matrix, others: csr_matrix) -> NDArray[np.bool_]:
    """For each row (n): whether its set is near to one of the others."""
    near = np.zeros(rows.shape[0], dtype=bool)
    columns = np.unique(others.indices)
    left, sizes = _in_columns(rows, columns), np.diff(rows.indptr)
    for start in range(0, others.shape[0], _BATCH):
        block = others[start : start + _BATCH]
        shared = (left @ _in_columns(block, columns).T).tocoo()
        union = sizes[shared.row] + np.diff(block.indptr)[shared.col] - shared.data
        near[shared.row[shared.data >= NEAR * union]] = True
    return near


def _in_columns(rows: csr_matrix, columns: NDArray[np.int32]) -> csr_matrix:
    """The rows with nothing but these columns (sorted), renumbered from 0."""
    places = np.minimum(np.searchsorted(columns, rows.indices), len(columns) - 1)
    kept = columns[places] == rows.indices
    starts = np.concatenate([[0], np.cumsum(kept)])[rows.indptr]
    ones = np.ones(int(starts[-1]), dtype=np.int32)
    return csr_matrix((ones, places[kept], starts), shape=(rows.shape[0], len(columns)))


def _linked(sets: csr_matrix) -> Ints:
    """Labels (n) of the connected parts of the graph that joins near sets.

    Two sets of Jaccard index t share a gram among the rarest |x| - ceil(t |x|) + 1 of each (prefix filter): only such
    pairs are compared, and only those that nothing has joined yet, so that a campaign of many copies stays cheap.
    """
    count = sets.shape[0]
    labels = np.arange(count, dtype=np.int64)
    if count < 2:
        return labels
    sets = _rarest_first(sets)
    sizes = np.diff(sets.indptr)
    prefixes = _prefixes(sets, sizes)
    columns = csr_matrix(prefixes.T)
    for start, end in _chunks_of_work(prefixes, columns):
        shared = (prefixes[start:end] @ columns).tocoo()
        left, right = shared.row.astype(np.int64) + start, shared.col.astype(np.int64)
        smaller, larger = np.minimum(sizes[left], sizes[right]), np.maximum(sizes[left], sizes[right])
        may_be_near = (left < right) & (smaller >= NEAR * larger)
        labels = _join(sets, sizes, left[may_be_near], right[may_be_near], labels)
    return labels


def _rarest_first(sets: csr_matrix) -> csr_matrix:
    """The same sets with columns numbered by how many sets have them, rarest first, and sorted so in each row."""
    _columns, compact, counts = np.unique(sets.indices, return_inverse=True, return_counts=True)
    rank = np.empty(len(counts), dtype=np.int32)
    rank[np.argsort(counts, kind="stable")] = np.arange(len(counts), dtype=np.int32)
    ones = np.ones(len(compact), dtype=np.int32)
    ranked = csr_matrix((ones, rank[compact], sets.indptr), shape=(sets.shape[0], len(counts)))
    ranked.sort_indices()
    return ranked


def _prefixes(sets: csr_matrix, sizes: NDArray[np.int32]) -> csr_matrix:
    lengths = sizes - np.ceil(NEAR * sizes).astype(sizes.dtype) + 1
    kept = np.arange(len(sets.indices)) - np.repeat(sets.indptr[:-1], sizes) < np.repeat(lengths, sizes)
    starts = np.concatenate([[0], np.cumsum(kept)])[sets.indptr]
    return csr_matrix((sets.data[kept], sets.indices[kept], starts), shape=sets.shape)


def _chunks_of_work(prefixes: csr_matrix, columns: csr_matrix) -> Iterator[tuple[int, int]]:
    """Ranges of rows whose product with all rows has a bounded number of entries."""
    work = np.concatenate([[0], np.cumsum(np.diff(columns.indptr)[prefixes.indices])])[prefixes.indptr]
    start = 0
    while start < prefixes.shape[0]:
        end = int(np.searchsorted(work, work[start] + _CANDIDATES, side="right")) - 1
        end = min(max(end, start + 1), prefixes.shape[0])
        yield start, end
        start = end


def _join(sets: csr_matrix, sizes: NDArray[np.int32], left: Ints, right: Ints, labels: Ints) -> Ints:
    """The labels after joining those of the pairs (left, right) that are near."""
    while True:
        apart = labels[left] != labels[right]
        left, right = left[apart], right[apart]
        if not len(left):
            return labels
        these, those = left[:_CHECKED], right[:_CHECKED]
        left, right = left[_CHECKED:], right[_CHECKED:]
        shared = np.asarray(sets[these].multiply(sets[those]).sum(axis=1)).ravel()
        near = shared >= NEAR * (sizes[these] + sizes[those] - shared)
        labels = _merged(labels, these[near], those[near])


def _merged(labels: Ints, left: Ints, right: Ints) -> Ints:
    count = len(labels)
    edges = csr_matrix((np.ones(len(left)), (labels[left], labels[right])), shape=(count, count))
    _parts, part_of = connected_components(edges, directed=False)
    return np.asarray(part_of, dtype=np.int64)[labels]


# --- groups ---------------------------------------------------------------------------------------------------------


def groups(
    texts: Sequence[tuple[str, str]],
    *,
    seed: int = 0,
    size: int = GROUP_SIZE,
    analysis: Analysis | None = None,
    tell: Callable[[int], None] = lambda _done: None,
) -> list[Ints]:
    """Cluster texts, given as (policy, text), by policy and similarity. `tell` is called with how many are done.

    Returns the positions (ascending) of each group, groups in the order of their first member; every text is in one
    group. `size` counts different texts: copies, which always share a group, do not make one larger. The same texts and
    seed give the same groups; the work is done on one thread, because sums on several differ in their last bits.
    """
    from threadpoolctl import threadpool_limits

    if not len(texts):
        return []
    first, copy_of = _distinct(texts)
    rules = analysis or get_analysis()
    with threadpool_limits(limits=1), tempfile.TemporaryFile(prefix="qx-groups-") as file:
        vectors = _vectors(texts, first, rules, seed, file, tell)
        labels = np.empty(len(first), dtype=np.int64)
        count = done = 0
        for rows in _by_policy(texts, first):
            for cell in _cells(vectors, rows, seed):
                inside = _joined(vectors[cell], size)
                labels[cell] = count + inside
                count += int(inside.max()) + 1
                done += len(cell)
                tell(done)
    return _members(labels[copy_of])


def _distinct(texts: Sequence[tuple[str, str]]) -> tuple[Ints, Ints]:
    """(positions of the first of each different (policy, text), for each text which of those it equals)."""
    hashes = np.fromiter((_short_hash(policy, text) for policy, text in texts), dtype=np.int64, count=len(texts))
    _values, first, copy_of = np.unique(hashes, return_index=True, return_inverse=True)
    order = np.argsort(first)
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return first[order].astype(np.int64), rank[copy_of].astype(np.int64)


def _short_hash(policy: str, text: str) -> int:
    digest = hashlib.blake2b(f"{policy}\n{text}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)


def _by_policy(texts: Sequence[tuple[str, str]], first: Ints) -> list[Ints]:
    """Rows (places in `first`) of each policy."""
    rows: dict[str, list[int]] = {}
    for row, position in enumerate(first.tolist()):
        rows.setdefault(texts[position][0], []).append(row)
    return [np.array(own, dtype=np.int64) for own in rows.values()]


def _vectors(
    texts: Sequence[tuple[str, str]],
    first: Ints,
    rules: Analysis,
    seed: int,
    file: IO[bytes],
    tell: Callable[[int], None],
) -> Floats:
    """Vectors (len(first), 32) of length 1, on disk."""
    draw = np.random.default_rng(seed)
    sample = np.sort(draw.choice(first, size=min(_SAMPLE, len(first)), replace=False))
    counts = _counts([texts[position][1] for position in sample.tolist()], rules)
    rarity = (np.log(counts.shape[0] / (1 + np.bincount(counts.indices, minlength=_COLUMNS))) + 1).astype(np.float32)
    reducer = _reducer(_weighted(counts, rarity), seed)
    vectors: Floats = np.memmap(file, dtype=np.float32, mode="w+", shape=(len(first), _WIDTH))
    for start in range(0, len(first), _BATCH):
        tell(0)
        batch = [texts[position][1] for position in first[start : start + _BATCH].tolist()]
        vectors[start : start + _BATCH] = _reduced(_weighted(_counts(batch, rules), rarity), reducer)
    return vectors


def _counts(texts: Sequence[str], rules: Analysis) -> csr_matrix:
    """Rows (n, 2**16) of hashed token 1-2-grams."""
    from sklearn.feature_extraction import FeatureHasher

    hasher = FeatureHasher(n_features=_COLUMNS, input_type="string", alternate_sign=False, dtype=np.float32)
    tokens = (rules.tokens(text, MatchMode.PHRASE) for text in texts)
    return csr_matrix(hasher.transform([*own, *map(" ".join, zip(own, own[1:], strict=False))] for own in tokens))


def _weighted(counts: csr_matrix, rarity: Floats) -> csr_matrix:
    """1 + ln tf, times how rare the gram is among the sample."""
    counts.data = (1 + np.log(counts.data)) * rarity[counts.indices]
    return counts


def _reducer(rows: csr_matrix, seed: int) -> "TruncatedSVD":
    """Fitted to as many numbers as there are texts, where those are fewer than 32."""
    from sklearn.decomposition import TruncatedSVD

    with np.errstate(divide="ignore", invalid="ignore"):  # texts that are all alike have no variance to explain
        return TruncatedSVD(min(_WIDTH, rows.shape[0]), random_state=seed).fit(rows)


def _reduced(rows: csr_matrix, reducer: "TruncatedSVD") -> Floats:
    from sklearn.preprocessing import normalize

    reduced = normalize(reducer.transform(rows))
    return np.pad(reduced, ((0, 0), (0, _WIDTH - reduced.shape[1]))).astype(np.float32)


def _cells(vectors: Floats, rows: Ints, seed: int) -> Iterator[Ints]:
    """The rows in cells of at most `_CELL`, by mini-batch k-means again and again."""
    from sklearn.cluster import MiniBatchKMeans

    if len(rows) <= _CELL:
        yield rows
        return
    branches = min(_BRANCHES, 2 * -(-len(rows) // _CELL))
    draw = np.random.default_rng(seed)
    sample = np.sort(draw.choice(rows, size=min(_SAMPLE, len(rows)), replace=False))
    means = MiniBatchKMeans(branches, random_state=seed, batch_size=_BATCH, n_init=1).fit(vectors[sample])
    labels = np.concatenate([means.predict(vectors[own]) for own in _slices(rows)])
    if (np.bincount(labels) == len(rows)).any():  # all at one place: any cut is as good
        yield from (rows[start : start + _CELL] for start in range(0, len(rows), _CELL))
        return
    for label in range(branches):
        part = rows[labels == label]
        if len(part):
            yield from _cells(vectors, part, seed)


def _slices(rows: Ints) -> Iterator[Ints]:
    return (rows[start : start + _BATCH] for start in range(0, len(rows), _BATCH))


def _joined(vectors: Floats, size: int) -> Ints:
    """Labels (n) of one cell's groups."""
    from sklearn.cluster import AgglomerativeClustering

    places, place_of = np.unique(vectors, axis=0, return_inverse=True)
    count = -(-len(places) // size)
    if count == 1:
        return np.zeros(len(vectors), dtype=np.int64)
    labels = AgglomerativeClustering(count, linkage="ward").fit_predict(places)
    return np.asarray(labels, dtype=np.int64)[place_of.ravel()]


def _members(labels: Ints) -> list[Ints]:
    order = np.argsort(labels, kind="stable")
    cuts = np.flatnonzero(np.diff(labels[order])) + 1
    return sorted((np.sort(own) for own in np.split(order, cuts)), key=lambda own: int(own[0]))


def _batches(values: Iterable[T], size: int) -> Iterator[list[T]]:
    rest = iter(values)
    while batch := list(islice(rest, size)):
        yield batch
