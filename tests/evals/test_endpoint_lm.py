"""An OpenAI-compatible endpoint as a model: what is sent, how echo is read, and what a bad endpoint gives."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from lm_eval.api.instance import Instance

from evals import endpoint_lm
from evals.endpoint_lm import EndpointLM
from evals.errors import EvaluationError
from evals.models import ModelOptions, open_model

Reply = Callable[[str, dict[str, Any]], tuple[int, Any]]


class Endpoint:
    """A server whose replies a test decides, from path and body to status and content."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, Any], str | None]] = []
        self.reply: Reply = lambda path, body: (200, {})
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._answer({})

            def do_POST(self) -> None:
                self._answer(json.loads(self.rfile.read(int(self.headers["content-length"]))))

            def _answer(self, body: dict[str, Any]) -> None:
                endpoint.asked.append((self.path, body, self.headers.get("authorization")))
                status, content = endpoint.reply(self.path, body)
                payload = content.encode() if isinstance(content, str) else json.dumps(content).encode()
                self.send_response(status)
                self.send_header("content-length", str(len(payload)))
                if status == 429:
                    self.send_header("retry-after", "0")
                self.end_headers()
                self.wfile.write(payload)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/v1"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[Endpoint]:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setattr(endpoint_lm, "FIRST_PAUSE_S", 0.001)
    opened = Endpoint()
    yield opened
    opened.close()


def ask(kind: str, *arguments: Any) -> list[Instance]:
    return [
        Instance(request_type=kind, doc={}, arguments=one, idx=0, metadata=("task", number, 1))
        for number, one in enumerate(arguments)
    ]


def completion(text: str, *, finish_reason: str = "length") -> dict[str, Any]:
    return {
        "choices": [{"text": text, "finish_reason": finish_reason}],
        "usage": {"prompt_tokens": 7, "completion_tokens": 3},
    }


def echo(body: dict[str, Any], *, size: int = 2, best: float = -0.25) -> dict[str, Any]:
    """The prompt and one more token in pieces of `size` characters; every second piece is the most probable one."""
    text = body["prompt"] + "!"
    offsets = list(range(0, len(text), size))
    chosen = [None if n == 0 else (best if n % 2 else -1.0) for n in range(len(offsets))]
    return {
        "choices": [
            {
                "text": text,
                "logprobs": {
                    "tokens": [text[offset : offset + size] for offset in offsets],
                    "token_logprobs": chosen,
                    "top_logprobs": [None if value is None else {"x": best} for value in chosen],
                    "text_offset": offsets,
                },
            }
        ]
    }


def test_generation(endpoint: Endpoint) -> None:
    endpoint.reply = lambda path, body: (200, completion(f" B{body['prompt']}|tail"))
    lm = EndpointLM(endpoint.url, "m", api_key="secret", progress=False, seed=5)
    options = {"until": ["|", "b", "c", "d", "e"], "max_gen_toks": 8, "do_sample": False}
    assert lm.generate_until(ask("generate_until", ("p1", options), ("p2", options))) == [" Bp1", " Bp2"]
    path, body, key = min(endpoint.asked, key=lambda one: str(one[1]["prompt"]))
    assert (path, key) == ("/v1/completions", "Bearer secret")
    assert body == {
        "model": "m",
        "prompt": "p1",
        "max_tokens": 8,
        "temperature": 0.0,
        "seed": 5,
        "stop": ["|", "b", "c", "d"],  # OpenAI takes four
    }
    assert [(fact.finish_reason, fact.num_prompt_tokens, fact.num_answer_tokens) for fact in lm.facts] == [
        ("stop", 7, 3)
    ] * 2


def test_conversations(endpoint: Endpoint) -> None:
    endpoint.reply = lambda path, body: (200, {"choices": [{"message": {"content": "B"}, "finish_reason": "stop"}]})
    lm = EndpointLM(endpoint.url, "m", chat_format=True, progress=False)
    prompt = lm.apply_chat_template([{"role": "user", "content": "„Hi“"}])
    assert lm.generate_until(ask("generate_until", (prompt, {}))) == ["B"]
    ((path, body, _),) = endpoint.asked
    assert path == "/v1/chat/completions"
    assert body["messages"] == [{"role": "user", "content": "„Hi“"}]
    with pytest.raises(EvaluationError, match="cannot score answers in a conversation"):
        lm.loglikelihood(ask("loglikelihood", ("a", "b")))


def test_scoring_by_echo(endpoint: Endpoint) -> None:
    endpoint.reply = lambda path, body: (200, echo(body))
    lm = EndpointLM(endpoint.url, "m", progress=False)
    whole, joined, blank = lm.loglikelihood(ask("loglikelihood", ("abcd", "efgh"), ("abc", "de"), ("abcd  ", "ef")))
    assert whole == (-1.0 - 0.25, False)  # pieces 2 and 3
    assert joined == (-0.25 - 1.0, False)  # "cd" holds the end of the context and the continuation's first letter
    assert blank == (-1.0 - 0.25, False)  # the blanks go with the continuation
    assert {body["prompt"] for _, body, _ in endpoint.asked} == {"abcdefgh", "abcde", "abcd  ef"}
    assert all(body["echo"] and body["logprobs"] == 1 for _, body, _ in endpoint.asked)
    endpoint.reply = lambda path, body: (200, echo(body, best=-1.0))
    assert lm.loglikelihood(ask("loglikelihood", ("abcd", "ef"))) == [(-1.0, True)]


@pytest.mark.slow
@pytest.mark.parametrize("missing", ["logprobs", "text_offset", "token_logprobs", "top_logprobs"])
def test_without_prompt_logprobs_it_is_refused(endpoint: Endpoint, missing: str) -> None:
    """An endpoint that leaves them out would score exact chance."""

    def reply(path: str, body: dict[str, Any]) -> tuple[int, Any]:
        content = echo(body)
        logprobs = content["choices"][0]["logprobs"]
        if missing == "logprobs":
            content["choices"][0]["logprobs"] = None
        elif missing == "text_offset":
            logprobs["text_offset"] = []
        else:
            logprobs[missing] = [None] * len(logprobs[missing])
        return 200, content

    endpoint.reply = reply
    with pytest.raises(EvaluationError, match="gives no log-probabilities of its prompt for m, so likelihood tasks"):
        EndpointLM(endpoint.url, "m", progress=False).loglikelihood(ask("loglikelihood", ("ab", "cd")))


def test_a_busy_endpoint_is_asked_again(endpoint: Endpoint) -> None:
    statuses = iter([429, 503, 200])
    endpoint.reply = lambda path, body: (next(statuses), completion(" B"))
    lm = EndpointLM(endpoint.url, "m", concurrency=1, progress=False)
    assert lm.generate_until(ask("generate_until", ("p", {}))) == [" B"]
    assert len(endpoint.asked) == 3


@pytest.mark.slow
@pytest.mark.parametrize(
    ("status", "content", "message"),
    [
        (400, {"error": {"message": "too long:\n9 tokens"}}, "the endpoint says 400 too long: 9 tokens"),
        (500, {"error": {"message": "it broke"}}, r"gave no answer in 5 attempts \(500 it broke\)"),
        (200, "<html>", "reply is no JSON object: '<html>'"),
        (200, {"choices": []}, "reply has no choices.0.text, as OpenAI's would"),
    ],
)
def test_what_a_bad_endpoint_gives_is_one_sentence(endpoint: Endpoint, status: int, content: Any, message: str) -> None:
    endpoint.reply = lambda path, body: (status, content)
    with pytest.raises(EvaluationError, match=message) as failed:
        EndpointLM(endpoint.url, "m", progress=False).generate_until(ask("generate_until", ("p", {})))
    assert "\n" not in str(failed.value)


def test_one_bad_request_fails_alone(endpoint: Endpoint) -> None:
    endpoint.reply = lambda path, body: (400, {}) if body["prompt"] == "p1" else (200, completion(" B"))
    lm = EndpointLM(endpoint.url, "m", progress=False)
    assert lm.generate_until(ask("generate_until", ("p0", {}), ("p1", {}))) == [" B", ""]
    assert [fact.failed for fact in lm.facts] == [False, True]


def test_names_of_endpoints(endpoint: Endpoint) -> None:
    def serves(*names: str) -> Reply:
        return lambda path, body: (200, {"data": [{"id": name, "created": 1, "owned_by": "us"} for name in names]})

    endpoint.reply = serves("only")
    model = open_model(endpoint.url, ModelOptions())
    assert (model.model["name"], model.model["weights_sha256"]) == ("only", None)
    assert model.model["entry"] == {"id": "only", "owned_by": "us"}
    assert model.engine["backend"] == "endpoint"
    endpoint.reply = serves("a", "b")
    assert open_model(f"{endpoint.url}#b", ModelOptions()).model["name"] == "b"
    with pytest.raises(EvaluationError, match=r"serves a, b: name one of them as http.*/v1#<name>"):
        open_model(endpoint.url, ModelOptions())
    endpoint.reply = lambda path, body: (404, {})
    with pytest.raises(EvaluationError, match="gives no list of models"):
        open_model(endpoint.url, ModelOptions())
