"""How fast a page of 100 matches with its counts is, at a million items. A script, not a test:

    python tests/benchmarks/bench_search.py --dir /tmp/bench
    python tests/benchmarks/bench_search.py --dir /tmp/bench --url http://127.0.0.1:9200

Texts are made from a seed: words of Chinese characters and latin letters with the skewed frequencies of real text, a
quarter of them with a disguised contact. Queries are phrases of two to six tokens that stand in the texts. On
Elasticsearch the same searches also run through the bare client, turn by turn, and the ratio is given.
"""

import argparse
import json
import random
import resource
import secrets
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from django.conf import settings
from elasticsearch import Elasticsearch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from extraction.search import Document, Order, SearchEngine, SearchRequest  # noqa: E402 - found through the line above
from extraction.search.elasticsearch import ElasticsearchEngine  # noqa: E402
from extraction.search.fts5 import Fts5Engine  # noqa: E402
from extraction.search.streams import stream  # noqa: E402
from extraction.text import MatchMode, get_analysis  # noqa: E402

WORDS = 30_000
CHARACTERS = 3_000
MEAN_WORDS = 45
LETTERS = "eeeeeeetttttaaaaooooiiiinnnnssshhhrrrddlllcuumwfgypbvk0123456789x"
CONTACTS = ["加微信vx{n}", "加.微.信 {n}", "＋Ｖ {n}", "薇❤️信{n}", "add me @x{n}"]
START = datetime(2026, 1, 1, tzinfo=UTC)


def make_words(rng: np.random.Generator) -> list[str]:
    """A vocabulary, most frequent word first: mostly one to three Han characters, some latin words."""
    frequency = 1 / (np.arange(CHARACTERS) + 20)
    han = [chr(0x4E00 + 5 * number) for number in range(CHARACTERS)]
    drawn = rng.choice(CHARACTERS, size=(WORDS, 3), p=frequency / frequency.sum())
    words: list[str] = []
    for number in range(WORDS):
        if number % 12 == 11:
            words.append(" " + "".join(rng.choice(list(LETTERS), size=rng.integers(2, 8))) + " ")
        else:
            length = 1 if number < 300 else 1 + number % 3
            words.append("".join(han[place] for place in drawn[number, :length]))
    return words


def make_documents(count: int, seed: int) -> Iterator[Document]:
    rng = np.random.default_rng(seed)
    words = np.array(make_words(rng), dtype=object)
    frequency = 1 / (np.arange(WORDS) + 3.7)  # Zipf and Mandelbrot: the first word is 3 % of a text
    frequency /= frequency.sum()
    for first in range(0, count, 10_000):
        lengths = np.clip(rng.poisson(MEAN_WORDS, size=min(10_000, count - first)), 3, None)
        drawn = words[rng.choice(WORDS, size=int(lengths.sum()), p=frequency)]
        ends = np.cumsum(lengths)
        risks, minutes, luck = rng.beta(0.4, 4, len(ends)), rng.integers(0, 500_000, len(ends)), rng.random(len(ends))
        for row, (start, end) in enumerate(zip([0, *ends[:-1]], ends, strict=True)):
            text = "".join(drawn[start:end])
            if luck[row] < 0.25:
                text += CONTACTS[int(luck[row] * 20)].format(n=first + row)
            yield Document(
                id=first + row + 1,
                text=text,
                version=1,
                live=luck[row] < 0.97,
                created=START + timedelta(minutes=int(minutes[row])),
                risk=float(risks[row]),
                verdict="toxic" if luck[row] > 0.99 else "",
                language="zh-Hans",
                platform="bench",
                author="",
            )


def make_requests(count: int, queries: int, seed: int) -> list[SearchRequest]:
    """Half of them in each mode and each order."""
    rnd, analysis = random.Random(seed), get_analysis()  # noqa: S311 - repeatable on purpose
    texts = [document.text for document in make_documents(min(count, 5_000), seed)]
    requests: list[SearchRequest] = []
    while len(requests) < queries:
        number = len(requests)
        mode = list(MatchMode)[number % 2]
        tokens = analysis.tokens(rnd.choice(texts), mode)
        length = rnd.randint(2, 6)
        start = rnd.randrange(max(1, len(tokens) - length))
        text = ("" if mode is MatchMode.CHARACTERS else " ").join(tokens[start : start + length])
        if len(analysis.tokens(text, mode)) >= 2:
            requests.append(SearchRequest(text, mode, order=list(Order)[number // 2 % 2]))
    return requests


def milliseconds(call: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> float:
    started = clock()
    call()
    return (clock() - started) * 1000


def percentiles(times: Sequence[float]) -> dict[str, float]:
    p50, p99 = np.percentile(times, [50, 99])
    return {"p50_ms": round(float(p50), 1), "p99_ms": round(float(p99), 1), "max_ms": round(max(times), 1)}


def measure(engine: SearchEngine, requests: Sequence[SearchRequest]) -> dict[str, object]:
    """Times of three passes; the first warms the caches, processor time tells what a busy machine adds."""
    cold = [milliseconds(partial(engine.search, request)) for request in requests]
    warm = [milliseconds(partial(engine.search, request)) for request in requests]
    processor = [milliseconds(partial(engine.search, request), time.process_time) for request in requests]
    pages = [engine.search(request) for request in requests]
    return {
        "first pass": percentiles(cold),
        "second pass": percentiles(warm),
        "processor time": percentiles(processor),
        "median matches": int(np.median([page.counts.live for page in pages])),
        "frequent (10,000+)": sum(not page.exact for page in pages),
        "queries": len(requests),
    }


def measure_beside_bare(engine: ElasticsearchEngine, url: str, requests: Sequence[SearchRequest]) -> dict[str, object]:
    """Our search and the bare client's, one after the other for each request, after one pass of both."""
    client, index, analysis = Elasticsearch(url), engine.generation, get_analysis()
    ours: list[float] = []
    bare: list[float] = []
    for _pass in range(2):
        ours.clear()
        bare.clear()
        for request in requests:
            body = _bare(request, stream(analysis.tokens(request.text, request.mode)))
            bare.append(milliseconds(partial(client.search, index=index, **body)))
            ours.append(milliseconds(partial(engine.search, request)))
    ratios = {
        "ratio p50": round(float(np.median(ours) / np.median(bare)), 2),
        "ratio p99": round(float(np.percentile(ours, 99) / np.percentile(bare, 99)), 2),
    }
    return {"ours": percentiles(ours), "bare client": percentiles(bare), **ratios}


def _bare(request: SearchRequest, phrase: str) -> dict[str, Any]:
    by_time: list[dict[str, str]] = [{"created": "desc"}, {"id": "asc"}]
    return {
        "query": {"bool": {"filter": [{"match_phrase": {request.mode.value: phrase}}, {"term": {"live": True}}]}},
        "sort": [{"risk": "desc"}, *by_time] if request.order is Order.RISK else by_time,
        "size": request.size,
        "track_total_hits": True,
        "_source": ["id"],
    }


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument(
        "--dir", type=Path, required=True, help="where the FTS5 index is built and kept for the next run"
    )
    options.add_argument("--url", default="", help="an Elasticsearch to measure too")
    options.add_argument("--items", type=int, default=1_000_000)
    options.add_argument("--queries", type=int, default=400)
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--json", type=Path, help="write the figures here too")
    given = options.parse_args()
    settings.configure()
    requests = make_requests(given.items, given.queries, given.seed)
    figures = {"items": given.items, "fts5": run_fts5(given.dir, given.items, given.seed, requests)}
    if given.url:
        figures["elasticsearch"] = run_elasticsearch(given.url, given.items, given.seed, requests)
    text = json.dumps(figures, indent=2)
    sys.stdout.write(text + "\n")
    if given.json:
        given.json.write_text(text + "\n", encoding="utf-8")


def run_fts5(folder: Path, items: int, seed: int, requests: Sequence[SearchRequest]) -> dict[str, object]:
    engine = Fts5Engine(folder / f"bench-{items}-{seed}.sqlite3")
    built: dict[str, object] = {}
    if not engine.health().is_ready:
        built["build_s"] = round(milliseconds(lambda: engine.rebuild(make_documents(items, seed))) / 1000)
        built["peak_memory_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    size = (folder / f"{engine.generation}.sqlite3").stat().st_size
    return {**built, "size_mb": size // 2**20, **measure(engine, requests)}


def run_elasticsearch(url: str, items: int, seed: int, requests: Sequence[SearchRequest]) -> dict[str, object]:
    engine = ElasticsearchEngine(url, f"qx-bench-{secrets.token_hex(4)}")
    try:
        built = round(milliseconds(lambda: engine.rebuild(make_documents(items, seed))) / 1000)
        return {"server": engine.name, "build_s": built, **measure_beside_bare(engine, url, requests)}
    finally:
        engine.drop()


if __name__ == "__main__":
    main()
