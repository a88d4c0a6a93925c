"""Where a context ends and its continuation begins, in tokens."""

from __future__ import annotations

from dataclasses import dataclass

from model.interface.errors import InvalidRequest
from model.interface.text import Tokenizer


@dataclass(frozen=True, kw_only=True, slots=True)
class Continuation:
    """A context and what is scored after it, as token ids; neither is empty.

    Attributes:
        merged: whether one token spans the boundary, so that it counts as the continuation's.
    """

    context_token_ids: tuple[int, ...]
    continuation_token_ids: tuple[int, ...]
    merged: bool = False


def split_continuation(tokenizer: Tokenizer, context: str, continuation: str) -> Continuation:
    """Token ids of a context and its continuation, split as lm-evaluation-harness splits them
    (`TemplateLM._encode_pair`), so that figures are comparable: the whole text is encoded, blanks at the end of the
    context belong to the continuation, and an empty context is the token a document begins with.

    Where one token spans the boundary so that lm-eval's rule leaves no continuation, it stops with an assertion
    (EleutherAI/lm-evaluation-harness#1297). Here the continuation then begins at the first token of the whole text that
    is not the context's own, at the latest with its last token, so it always holds every token with a character of
    the continuation.

    Raises:
        InvalidRequest: the continuation is empty, or the context is and the tokenizer has no token for it.
    """
    if not continuation:
        raise InvalidRequest(f"the continuation after {context[-40:]!r} is empty: there is nothing to score")
    if not context:
        token_ids = tokenizer.encode_prompt(continuation)
        first = document_start(tokenizer)
        if len(token_ids) > 1 and token_ids[0] == first:
            token_ids = token_ids[1:]
        return Continuation(context_token_ids=(first,), continuation_token_ids=tuple(token_ids))
    whole = tokenizer.encode_prompt(context + continuation)
    own = tokenizer.encode_prompt(context.rstrip())
    if len(whole) > len(own):
        context_ids = own or [document_start(tokenizer)]
        return Continuation(context_token_ids=tuple(context_ids), continuation_token_ids=tuple(whole[len(own) :]))
    own = tokenizer.encode_prompt(context)
    same = next((place for place, (a, b) in enumerate(zip(whole, own, strict=False)) if a != b), len(whole))
    start = min(same, len(whole) - 1)
    return Continuation(
        context_token_ids=tuple(whole[:start] or [document_start(tokenizer)]),
        continuation_token_ids=tuple(whole[start:]),
        merged=True,
    )


def document_start(tokenizer: Tokenizer) -> int:
    """The token that stands for an empty context: BOS if the checkpoint has one, else the end of a document.

    Raises:
        InvalidRequest: it has neither.
    """
    if tokenizer.bos_token_id is not None:
        return tokenizer.bos_token_id
    if not tokenizer.eos_token_ids:
        raise InvalidRequest("the tokenizer names no end-of-document token: the checkpoint's config must")
    return tokenizer.eos_token_ids[0]
