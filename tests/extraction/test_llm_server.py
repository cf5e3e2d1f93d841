"""A language model on a server: the same queries as from the model in this process, and no text to strangers."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from extraction.generation import AdapterRefused, LocalModel, _Row
from extraction.llm_server import (
    AddressRefused,
    LlmServerError,
    LlmServerTimedOut,
    LlmServerUnavailable,
    ServerProposer,
    check_address,
)
from extraction.prompts import PROMPTS
from tests.tiny import base_folder, tiny_adapter

__all__ = ["base_folder"]

Answer = Callable[[dict[str, Any]], tuple[int, object]]
ZH = PROMPTS["zh-1"]
TEXTS = ["加微信代开发票，低价出售", "刷单兼职日结，联系电话加vx12345", "，，", "办证😀龘"]


@dataclass
class Server:
    """Speaks the protocol over HTTP. `answers[path]` makes (status, JSON or words) of a request's body."""

    answers: dict[str, Answer]
    asked: list[SimpleNamespace] = field(default_factory=list)
    url: str = ""

    def completions(self, text: str, **changes: object) -> None:
        """Answer every question with this text, one token a character, each of probability 1/e."""
        offsets = list(range(len(text)))
        choice = {
            "text": text,
            "finish_reason": "stop",
            "logprobs": {"text_offset": offsets, "token_logprobs": [-1.0] * len(text), "tokens": list(text)},
            **changes,
        }
        self.answers["/v1/completions"] = lambda body: (200, {"choices": [choice]})


@pytest.fixture
def server() -> Iterator[Server]:
    state = Server(answers={})

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or "{}")
            state.asked.append(SimpleNamespace(path=self.path, body=body, key=self.headers.get("Authorization")))
            status, said = state.answers[self.path](body)
            data = said.encode() if isinstance(said, str) else json.dumps(said).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = answer

        def log_message(self, *args: object) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{http.server_address[1]}"
    thread = threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield state
    http.shutdown()
    http.server_close()


@pytest.fixture
def proposer(server: Server, base_folder: Path) -> ServerProposer:
    return ServerProposer.open(base_folder, prompt=ZH, url=server.url, key="secret", model="tiny")


def speaks(model: LocalModel) -> Answer:
    """Completions by the tiny model, under the grammar of the request."""
    from llguidance import LLMatcher

    lock = threading.Lock()

    def complete(body: dict[str, Any]) -> tuple[int, object]:
        matcher = LLMatcher(model._constraint._vocabulary, body["structured_outputs"]["grammar"])
        ids = model._tokenizer(body["prompt"], add_special_tokens=body["add_special_tokens"])["input_ids"]
        row = _Row(0, None if body["model"] == "tiny" else body["model"], ids, matcher)
        with lock:
            [answer] = model._generate([row], body["max_tokens"], body["temperature"])
        ends = model._constraint.end in answer.ids
        said = answer.ids[: answer.ids.index(model._constraint.end)] if ends else answer.ids
        whole = [model._tokenizer.decode(said[:at]).rstrip("\ufffd") for at in range(len(said))]
        choice = {
            "text": model._tokenizer.decode(said),
            "finish_reason": "stop" if ends else "length",
            "logprobs": {"text_offset": [*map(len, whole)], "token_logprobs": answer.log_probs[: len(said)]},
        }
        return 200, {"choices": [choice]}

    return complete


# --- what is proposed


def test_server_proposes_what_the_model_here_proposes(server, proposer, base_folder, tmp_path):
    model = LocalModel.open(base_folder, prompt=ZH, device="cpu")
    model.load_adapter("a", tiny_adapter(tmp_path / "a", base_folder))
    server.answers["/v1/completions"] = speaks(model)
    names = [None, "a", None, "a"]
    here, there = model.propose(TEXTS, names, limit=3), proposer.propose(TEXTS, names, limit=3)
    assert [[(one.text, one.start) for one in found] for found in there] == [
        [(one.text, one.start) for one in found] for found in here
    ]
    assert there[2] == []
    for found, expected in zip(there[:2], here[:2], strict=True):
        assert [one.confidence for one in found] == pytest.approx([one.confidence for one in expected], abs=1e-3)


def test_request_is_greedy_under_a_grammar_and_with_the_key(server, proposer):
    server.completions("加微信")
    proposer.propose(["加微信办证"], [None], limit=2)
    [asked] = server.asked
    assert asked.key == "Bearer secret"
    assert asked.body["model"] == "tiny"
    assert asked.body["temperature"] == 0
    assert asked.body["prompt"].endswith("加微信办证<|im_end|>\n<|im_start|>assistant\n关键词：\n")
    assert 'PHRASE: %regex {"substring_chunks"' in asked.body["structured_outputs"]["grammar"]


def test_text_that_allows_no_query_is_not_sent(server, proposer):
    assert proposer.propose(["", "，", "***"], [None] * 3) == [[], [], []]
    assert server.asked == []


def test_phrase_that_the_report_does_not_say_is_dropped(server, proposer):
    server.completions("关键词：1. “办假证”\n2. 加微信\n3. 加.微.信")
    [proposed] = proposer.propose(["请加微信办证"], [None])
    assert [one.text for one in proposed] == ["加微信"]


def test_confidence_is_the_mean_over_the_phrases_own_tokens(server, proposer):
    said = {"text_offset": [100, 101, 103, 104], "token_logprobs": [-1.0, -3.0, -50.0, -0.5]}
    server.completions("加微信，办证", logprobs=said)
    [proposed] = proposer.propose(["加微信！办证"], [None])
    assert [(one.text, one.confidence) for one in proposed] == [("加微信", -2.0), ("办证", -0.5)]


def test_last_phrase_of_an_answer_that_was_cut_off_is_left_out(server, proposer):
    server.completions("加微信，办证", finish_reason="length")
    [proposed] = proposer.propose(["加微信，办证"], [None])
    assert [one.text for one in proposed] == ["加微信"]


def test_no_more_queries_than_asked_for(server, proposer):
    server.completions("加微信，办证，微信")
    assert len(proposer.propose(["加微信，办证"], [None], limit=2)[0]) == 2


# --- what goes wrong


@pytest.mark.parametrize(
    "answer",
    [
        "no JSON",
        {},
        {"choices": []},
        {"choices": [{"text": "加微信"}]},
        {"choices": [{"text": "加微信", "finish_reason": "stop", "logprobs": None}]},
        {
            "choices": [
                {"text": "加微信", "finish_reason": "stop", "logprobs": {"text_offset": [], "token_logprobs": []}}
            ]
        },
        {
            "choices": [
                {"text": "加微信", "finish_reason": "stop", "logprobs": {"text_offset": [0], "token_logprobs": []}}
            ]
        },
    ],
    ids=range(7),
)
def test_answer_of_another_shape_is_an_error(server, proposer, answer):
    server.answers["/v1/completions"] = lambda body: (200, answer)
    with pytest.raises(LlmServerError, match="another shape"):
        proposer.propose(["加微信"], [None])


@pytest.mark.parametrize(
    ("status", "kind"),
    [(500, LlmServerUnavailable), (503, LlmServerUnavailable), (429, LlmServerUnavailable), (400, LlmServerError),
     (401, LlmServerError), (404, LlmServerError), (302, LlmServerError)],
)  # fmt: skip
def test_refusal_says_the_status_and_no_text(server, proposer, status, kind):
    server.answers["/v1/completions"] = lambda body: (status, {"error": body["prompt"]})
    with pytest.raises(LlmServerError, match=str(status)) as caught:
        proposer.propose(["加微信"], [None])
    assert type(caught.value) is kind
    assert "微信" not in str(caught.value)


def test_slow_server_times_out(server, base_folder):
    from extraction.generation import open_tokenizer

    server.answers["/v1/completions"] = lambda body: time.sleep(0.5) or (200, {})
    proposer = ServerProposer(open_tokenizer(base_folder), ZH, asked={}, url=server.url, timeout_s=0.1)
    with pytest.raises(LlmServerTimedOut):
        proposer.propose(["加微信"], [None])


def test_server_that_is_down_is_unavailable(base_folder):
    proposer = ServerProposer.open(base_folder, prompt=ZH, url="http://127.0.0.1:9")
    with pytest.raises(LlmServerUnavailable, match="cannot be reached"):
        proposer.propose(["加微信"], [None])


# --- adapters


def test_adapters_are_those_that_the_server_lists(server, proposer):
    server.answers["/v1/models"] = lambda body: (200, {"data": [{"id": "tiny"}, {"id": "sft-1"}]})
    assert proposer.adapters == ["sft-1"]


def test_list_of_another_shape_is_an_error(server, proposer):
    server.answers["/v1/models"] = lambda body: (200, [])
    with pytest.raises(LlmServerError, match="another shape"):
        proposer.adapters  # noqa: B018


def test_adapter_is_put_there_and_taken_away(server, proposer, base_folder, tmp_path):
    folder = tiny_adapter(tmp_path / "a", base_folder)
    server.answers["/v1/load_lora_adapter"] = server.answers["/v1/unload_lora_adapter"] = lambda body: (200, "Success")
    proposer.load_adapter("sft-1", folder)
    proposer.drop_adapter("sft-1")
    assert [asked.body for asked in server.asked] == [
        {"lora_name": "sft-1", "lora_path": str(folder)},
        {"lora_name": "sft-1"},
    ]


def test_adapter_that_was_asked_otherwise_is_refused(server, proposer, base_folder, tmp_path):
    folder = tiny_adapter(tmp_path / "a", base_folder)
    known = json.loads((folder / "training.json").read_text())
    (folder / "training.json").write_text(json.dumps({**known, "template_hash": "0" * 64}))
    with pytest.raises(AdapterRefused, match="template_hash"):
        proposer.load_adapter("sft-1", folder)
    assert server.asked == []


# --- whose machine it is


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:8000", "http://localhost:8000/v1", "http://10.1.2.3", "https://192.168.1.9", "http://[::1]:80",
            "http://[fd00::1]:8000"],
)  # fmt: skip
def test_machine_of_ones_own_may_be_asked(url):
    check_address(url)


@pytest.mark.parametrize("url", ["http://8.8.8.8", "https://[2001:4860:4860::8888]/v1", "http://100.64.0.1"])
def test_stranger_may_not(url):
    with pytest.raises(AddressRefused, match="QX_LLM_ALLOW_HOST"):
        check_address(url)


def test_stranger_whose_name_is_allowed_may(server):
    check_address("http://8.8.8.8:8000/v1", ["8.8.8.8"])


@pytest.mark.parametrize("url", ["", "8.8.8.8", "ftp://127.0.0.1", "http://", "file:///etc/passwd"])
def test_what_is_no_address_is_refused(url):
    with pytest.raises(AddressRefused, match="no address"):
        check_address(url)


def test_unknown_host_is_unavailable():
    with pytest.raises(LlmServerUnavailable, match="unknown"):
        check_address("http://nobody.invalid")


def test_no_text_leaves_before_the_address_is_checked(base_folder):
    proposer = ServerProposer.open(base_folder, prompt=ZH, url="http://8.8.8.8")
    with pytest.raises(AddressRefused):
        proposer.propose(["加微信"], [None])


def test_redirect_is_not_followed(server, proposer):
    server.completions("加微信")
    complete = server.answers["/v1/completions"]
    server.answers["/elsewhere"] = complete
    server.answers["/v1/completions"] = lambda body: (307, {})
    with pytest.raises(LlmServerError, match="307"):
        proposer.propose(["加微信"], [None])
    assert [asked.path for asked in server.asked] == ["/v1/completions"]


def test_other_separators_inside_a_phrase_part_nothing_where_the_grammar_was_kept(server, proposer):
    server.completions("加微信、办证，低价")
    [proposed] = proposer.propose(["加微信、办证 低价"], [None])
    assert [one.text for one in proposed] == ["加微信、办证", "低价"]
