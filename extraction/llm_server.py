"""Queries from a language model on a server of the operator's own: the protocol of OpenAI, as vLLM speaks it.

`ServerProposer` stands where `LocalModel` stands. The prompt is rendered here, with the base's own tokenizer, and the
grammar of each report goes along (`structured_outputs`), so that the server answers as the model in this process would.
What it answers is still read as foreign text: a phrase that the report does not say is dropped. Adapters are served
under their names; with vLLM's runtime updating they are put there and taken away from here, through a folder that both
machines see under the same path.

No text leaves the operator's machines: the address must be of this machine or a private network. One that is not can be
allowed by name, for a server of the operator's own with a public address.
"""

import ipaddress
import json
import logging
import re
import socket
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

import urllib3

from extraction.constraint import Limits, encodable, grammar
from extraction.generation import (
    ANSWER_TOKENS,
    MAX_LENGTH,
    Proposed,
    check_stamp,
    model_folder,
    open_tokenizer,
    read_stamp,
    template_hash,
    tokenizer_hash,
    verbatim,
)
from extraction.parsing import Part, split_answer
from extraction.prompts import Prompt, fit_content, render_prompt
from extraction.suggest import PROPOSAL_LIMIT
from extraction.text import get_analysis

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

CONNECT_TIMEOUT_S = 5.0
READ_TIMEOUT_S = 120.0
AT_ONCE = 16
"""Requests under way; the server makes batches of them."""

logger = logging.getLogger(__name__)


class LlmServerError(Exception):
    """The server did not answer as asked: it refused, or answered in another shape. The message holds no text."""


class LlmServerUnavailable(LlmServerError):
    """The server cannot be reached, or has too much to do: later it may."""


class LlmServerTimedOut(LlmServerUnavailable):
    """The server was reached and did not answer in time."""


class AddressRefused(Exception):
    """The server's address is not on the operator's own machines, as far as can be told."""


@dataclass(frozen=True)
class _Question:
    """One request: which text, what of it is shown, who answers, with what prompt and grammar."""

    text: int
    content: str
    model: str
    prompt: str
    grammar: str


class ServerProposer:
    """A base model and its adapters behind an address. Its methods raise LlmServerError and AddressRefused.

    `url` is the server's address, with or without `/v1`; `model` the name under which it serves the base alone.
    """

    def __init__(
        self,
        tokenizer: "PreTrainedTokenizerFast",
        prompt: Prompt,
        *,
        asked: dict[str, str],
        url: str,
        key: str = "",
        model: str = "",
        allowed_hosts: Collection[str] = (),
        limits: Limits | None = None,
        timeout_s: float = READ_TIMEOUT_S,
    ) -> None:
        self._tokenizer = tokenizer
        self._prompt = prompt
        self._asked = asked
        self._url = url.rstrip("/").removesuffix("/v1")
        self._base = model
        self._allowed_hosts = allowed_hosts
        self._limits = limits or Limits()
        self._analysis = get_analysis()
        self._http = urllib3.PoolManager(
            maxsize=AT_ONCE,
            retries=False,
            timeout=urllib3.Timeout(connect=CONNECT_TIMEOUT_S, read=timeout_s),
            headers={"Authorization": f"Bearer {key}"} if key else {},
        )

    @classmethod
    def open(
        cls,
        folder_or_name: Path | str,
        *,
        prompt: Prompt,
        url: str,
        revision: str = "",
        key: str = "",
        model: str = "",
        allowed_hosts: Collection[str] = (),
        limits: Limits | None = None,
    ) -> Self:
        """Read the base's tokenizer, from its folder or by name at a pinned commit; its weights stay where they are."""
        folder = model_folder(folder_or_name, revision, with_weights=False)
        return cls(
            open_tokenizer(folder),
            prompt,
            asked={
                "tokenizer_hash": tokenizer_hash(folder),
                "template_hash": template_hash(folder),
                "prompt_version": prompt.version,
            },
            url=url,
            key=key,
            model=model,
            allowed_hosts=allowed_hosts,
            limits=limits,
        )

    # --- adapters

    @property
    def adapters(self) -> list[str]:
        """Names of the adapters that the server has now: it is asked."""
        served = self._ask("GET", "/v1/models")
        try:
            return [str(one["id"]) for one in served["data"] if one["id"] != self._base]
        except (KeyError, TypeError) as error:
            raise LlmServerError("The server lists its models in another shape.") from error

    def load_adapter(self, name: str, folder: Path) -> None:
        """Let the server read an adapter from this folder. Raises AdapterRefused where it is not one of this base."""
        check_stamp(read_stamp(folder), self._asked)
        self._ask("POST", "/v1/load_lora_adapter", {"lora_name": name, "lora_path": str(folder)})

    def drop_adapter(self, name: str) -> None:
        self._ask("POST", "/v1/unload_lora_adapter", {"lora_name": name})

    # --- proposing

    def propose(
        self, texts: Sequence[str], adapters: Sequence[str | None], *, limit: int = PROPOSAL_LIMIT
    ) -> list[list[Proposed]]:
        """See Proposer. One request a text, several at once; the first that fails ends it."""
        questions = self._questions(texts, adapters, limit)
        proposed: list[list[Proposed]] = [[] for _text in texts]
        with ThreadPoolExecutor(AT_ONCE) as pool:
            answers = pool.map(lambda question: self._answer(question, limit), questions)
            for question, answer in zip(questions, answers, strict=True):
                found = verbatim(answer, texts[question.text], self._analysis, shortest=self._limits.shortest)
                proposed[question.text] = found[:limit]
        return proposed

    def _questions(self, texts: Sequence[str], adapters: Sequence[str | None], limit: int) -> list[_Question]:
        """What to ask; nothing for a text that allows no query."""
        questions = []
        for at, (text, adapter) in enumerate(zip(texts, adapters, strict=True)):
            room = MAX_LENGTH - ANSWER_TOKENS
            content, _queries = fit_content(self._tokenizer, encodable(text), [], self._prompt, room)
            rules = grammar(content, self._prompt, most=limit, limits=self._limits, analysis=self._analysis)
            if rules is not None:
                prompt = render_prompt(self._tokenizer, content, self._prompt)
                questions.append(_Question(at, content, adapter or self._base, prompt, rules))
        return questions

    def _answer(self, question: _Question, limit: int) -> list[tuple[str, float]]:
        """The phrases of one answer, each with the mean log-probability of its tokens, in nats."""
        answer = self._ask(
            "POST",
            "/v1/completions",
            {
                "model": question.model,
                "prompt": question.prompt,
                "add_special_tokens": False,  # the chat template already holds them
                "structured_outputs": {"grammar": question.grammar},
                "max_tokens": min(ANSWER_TOKENS, limit * (self._limits.longest + 1)),
                "temperature": 0,
                "repetition_penalty": 1.0,
                "logprobs": 1,
            },
        )
        try:
            return self._phrases(answer["choices"][0], question.content)
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise LlmServerError(f"The server's answer has another shape: {type(error).__name__}.") from error

    def _phrases(self, choice: dict[str, Any], content: str) -> list[tuple[str, float]]:
        """Of an answer that was cut off at the length limit, all but the last.

        `text_offset` counts from the begin of the answer, or of the prompt, so it is taken from the first token on. A
        server that kept to the grammar means only our own separator; what another one says is read as it comes.
        """
        text, said = str(choice["text"]), choice["logprobs"]
        starts = [int(offset) - int(said["text_offset"][0]) for offset in said["text_offset"]]
        ends = [max(start + 1, end) for start, end in zip(starts, [*starts[1:], len(text)], strict=True)]
        tokens = list(zip(starts, ends, said["token_logprobs"], strict=True))
        parts = [Part(found.group(), *found.span()) for found in re.finditer(f"[^{self._prompt.separator}]+", text)]
        if not all(part.text in content for part in parts):
            parts = split_answer(text)
        if choice["finish_reason"] == "length":
            parts = parts[:-1]
        return [
            (part.text, fmean(float(value) for start, end, value in tokens if start < part.end and end > part.start))
            for part in parts
        ]

    # --- asking

    def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """The JSON that the server answers; None where it answers in words."""
        check_address(self._url, self._allowed_hosts)
        try:
            answer = self._http.request(method, self._url + path, json=body, redirect=False)
        except urllib3.exceptions.NewConnectionError as error:  # urllib3 counts it among the timeouts
            raise LlmServerUnavailable(f"The server at {self._url} cannot be reached.") from error
        except urllib3.exceptions.TimeoutError as error:
            raise LlmServerTimedOut(f"The server at {self._url} did not answer in time.") from error
        except urllib3.exceptions.HTTPError as error:
            raise LlmServerUnavailable(f"The server at {self._url}: {type(error).__name__}.") from error
        if answer.status == 200:
            return _json(answer)
        logger.debug("The language model server answered %s to %s: %s", answer.status, path, answer.data[:2000])
        kind = LlmServerUnavailable if answer.status == 429 or answer.status >= 500 else LlmServerError
        raise kind(f"The server at {self._url} answered {answer.status} to {path}.")


def check_address(url: str, allowed_hosts: Collection[str] = ()) -> None:
    """Raise AddressRefused unless every address of the host is of this machine or of a private network.

    Asked before each request: a name may lead elsewhere tomorrow. Hosts in `allowed_hosts` are the operator's word.
    """
    parts = urlsplit(url)
    host = parts.hostname
    if parts.scheme not in {"http", "https"} or not host:
        raise AddressRefused(f"{url!r} is no address like http://127.0.0.1:8000.")
    if host in allowed_hosts:
        return
    try:
        found = {info[4][0] for info in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)}
    except OSError as error:
        raise LlmServerUnavailable(f"The host {host} is unknown.") from error
    public = sorted(str(address) for address in found if not _is_private(str(address)))
    if public:
        raise AddressRefused(
            f"{host} is {public[0]}, which is no private address. Reported texts stay on your own machines; if this "
            f"one is yours, set QX_LLM_ALLOW_HOST={host}."
        )


def _is_private(address: str) -> bool:
    return ipaddress.ip_address(address.partition("%")[0]).is_private


def _json(answer: urllib3.BaseHTTPResponse) -> Any:
    """vLLM answers in JSON to questions, and with a sentence to loading and unloading."""
    try:
        return json.loads(answer.data)
    except ValueError:
        return None
