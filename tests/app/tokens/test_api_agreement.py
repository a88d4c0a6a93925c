"""The page's log-probabilities are those the API echoes."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi.testclient import TestClient

from app.server import create_app
from app.tokens.asking import score
from app.tokens.document import make_document
from app.tokens.scored_text import ScoredText
from model.engine.engine import LocalEngine


def test_a_typed_text_is_what_the_api_echoes(engine: LocalEngine) -> None:
    text = "The quick brown fox says: def add(a, b)"
    document = make_document(engine, text, "", in_chat_format=False)

    async def read() -> ScoredText:
        scored = [update async for update in score(engine, document, num_top=1, stop=asyncio.Event())][-1]
        assert isinstance(scored, ScoredText)
        return scored

    body: dict[str, Any] = {"prompt": text, "echo": True, "max_tokens": 0, "logprobs": 1}
    with TestClient(create_app([engine], with_pages=False)) as client:
        (choice,) = client.post("/v1/completions", json=body).json()["choices"]
    page = asyncio.run(read())
    assert page.tokens[0].logprob is choice["logprobs"]["token_logprobs"][0] is None
    ours = [one.logprob for one in page.tokens[1:]]
    theirs = choice["logprobs"]["token_logprobs"][1:]
    assert len(ours) == len(theirs)
    # The last bits differ with how many rows are computed at once.
    assert all(a is not None and abs(a - b) < 1e-4 for a, b in zip(ours, theirs, strict=True))
