"""A labelled suite in miniature, made here from a seed, with a README whose figures are counted by brute force."""

import gzip
import hashlib
import json
import random
import re
from pathlib import Path
from typing import Any

Line = dict[str, Any]
SECRET = "ANSWER-"  # begins every label of the dev and test split: a method must never be able to reach one

_OFFERS = ("代办毕业证", "专业办证加微信", "快速办理毕业证", "诚信办证包查", "毕业证办理加薇信")
_ENDS = ("联系*", "电话*", "速来", "当天出证", "见证付款", "信誉第一")
_TALK = (
    "今天天气不错",
    "晚上吃什么好",
    "毕业快乐",
    "周末去爬山吗",
    "这本书很好看",
    "微信运动第一名",
    "证据不足",
    "快递到了*",
)
_MORE = ("哈哈", "真的吗", "好的", "明天见", "谢谢", "没问题", "辛苦了", "早点睡")


def make_suite(folder: Path, *, size: int = 360, seed: int = 7) -> Path:
    """Write a suite of `size` items into `folder`, a sixth toxic; a third of the toxic ones are reported."""
    folder.mkdir(parents=True, exist_ok=True)
    draw = random.Random(seed)
    items = [_item(number, draw) for number in range(size)]
    reports = [_report(number, item) for number, item in enumerate(items) if number % 18 == 0]
    with gzip.open(folder / "items.jsonl.gz", "wt", encoding="utf-8") as out:
        out.writelines(json.dumps(item, ensure_ascii=False) + "\n" for item in items)
    with (folder / "reports.jsonl").open("w", encoding="utf-8") as out:
        out.writelines(json.dumps(report, ensure_ascii=False) + "\n" for report in reports)
    (folder / "README.md").write_text(_readme(items, reports), encoding="utf-8")
    return folder


def matching(items: list[Line], reports: list[Line], query: str) -> list[Line]:
    """What a Chinese query finds in the test split's std index, newest first, by looking at every text."""
    reported = {report["item_id"] for report in reports}
    found = [
        item
        for item in items
        if item["split"] == "test" and item["id"] not in reported and query in re.sub(r"[^\w*]", "", item["text"])
    ]
    return sorted(found, key=lambda item: hashlib.blake2b(f"20250218rank{item['id']}".encode(), digest_size=8).digest())


def human_figures(items: list[Line], reports: list[Line]) -> tuple[int, int, int, int]:
    """First human phrase of each test report in file order: effective queries, hit@100, unique, U@5."""
    tested = [report for report in reports if report["split"] == "test"]
    pages = [matching(items, reports, report["human_phrases"][0])[:100] for report in tested]
    hits = [[item for item in page if item["toxic"]] for page in pages]
    shown = list({item["id"]: item for page in pages for item in page}.values())
    unique = sum(item["toxic"] for item in shown)
    found = sum(item["toxic"] for item in shown[: 5 * len(tested)])
    return sum(map(bool, hits)), sum(map(len, hits)), unique, found


def read_lines(folder: Path) -> tuple[list[Line], list[Line]]:
    with gzip.open(folder / "items.jsonl.gz", "rt", encoding="utf-8") as lines:
        items = [json.loads(line) for line in lines]
    reports = [json.loads(line) for line in (folder / "reports.jsonl").read_text(encoding="utf-8").splitlines()]
    return items, reports


def _item(number: int, draw: random.Random) -> Line:
    toxic = number % 6 == 0
    split = "train" if number % 5 < 2 else "test" if number % 5 < 4 else "dev"
    text = "".join(draw.choice(words) for words in ((_OFFERS, _ENDS, _ENDS) if toxic else (_TALK, _MORE, _MORE)))
    label = "" if split == "train" else SECRET
    item = {"id": f"tiny-{number:04}", "text": f"{text}{number}", "toxic": int(toxic), "split": split}
    source = "forum" if toxic or number % 4 == 1 else "chat"
    item |= {"category": f"{label}category", "source": f"{label}{source}", "split_random": split}
    return (
        item
        | ({"cluster": f"{label}c{number % 4}", "low": int(number % 12 == 0)} if toxic else {})
        | ({"known": 1} if toxic and split != "train" and "毕业证" in text else {})
    )


def _report(number: int, item: Line) -> Line:
    label = "" if item["split"] == "train" else SECRET
    phrases = [item["text"][2:4], f"{label}phrase"]
    kept = {name: item[name] for name in ("text", "split", "split_random", "cluster", "category")}
    return {"id": f"tiny-r{number:04}", "item_id": item["id"], "human_phrases": phrases} | kept


def _readme(items: list[Line], reports: list[Line]) -> str:
    lines = ["# tiny", "", "| query | matches | toxic among them | toxic in the first 100 |", "|---|---|---|---|"]
    for query in ("毕业证", "微信", "今天天气"):
        found = matching(items, reports, query)
        toxic = [item["toxic"] for item in found]
        lines.append(f"| {query} | {len(found)} | {sum(toxic)} | {sum(toxic[:100])} |")
    effective, hits, unique, found_at_5 = human_figures(items, reports)
    lines += ["", f"First human phrase: {effective} effective, hit@100 {hits}, unique {unique} of 9,999 reviewed,"]
    lines += [f"U@5 = {found_at_5}."]
    return "\n".join(lines) + "\n"
