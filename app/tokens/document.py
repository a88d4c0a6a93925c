"""From what was typed to the tokens a model reads: where its prompt ends, and its answer begins."""

from __future__ import annotations

from dataclasses import dataclass

from model.interface import ChatMessage, Engine, InvalidRequest, Tokenizer


@dataclass(frozen=True, kw_only=True, slots=True)
class Document:
    """A text to be read by a model.

    Attributes:
        prompt, answer: the texts; put together they are the whole.
        prompt_token_ids, answer_token_ids: the whole's tokens.
        joined: whether the answer's first token begins with the prompt's last characters.
    """

    prompt: str
    answer: str
    prompt_token_ids: tuple[int, ...]
    answer_token_ids: tuple[int, ...]
    joined: bool

    @property
    def token_ids(self) -> tuple[int, ...]:
        """The whole's."""
        return self.prompt_token_ids + self.answer_token_ids


def make_document(engine: Engine, prompt: str, answer: str, *, in_chat_format: bool) -> Document:
    """What this engine's model reads.

    Args:
        in_chat_format: whether the prompt is a question in the model's own chat format, and the answer its answer.

    Raises:
        InvalidRequest: there is no text, or the chat format cannot hold it.
    """
    if in_chat_format:
        if not prompt.strip():
            raise InvalidRequest("the prompt is empty: write a question first")
        template = engine.chat_template
        asked = template.render([ChatMessage("user", prompt)])
        if answer:
            whole = template.render([ChatMessage("user", prompt), ChatMessage("assistant", answer)])
            if not whole.startswith(asked):
                raise InvalidRequest(
                    f"the chat format {template.name!r} writes the question otherwise once it is answered: "
                    "use the raw text"
                )
            answer = whole[len(asked) :]
        prompt = asked
    if not prompt + answer:
        raise InvalidRequest("the prompt is empty: write something first")
    return split(engine.tokenizer, prompt, answer)


def split(tokenizer: Tokenizer, prompt: str, answer: str) -> Document:
    """The tokens of both texts as one. A token that holds the end of the prompt and the start of the answer is the
    answer's, as in lm-eval's scores: its characters would go unscored otherwise."""
    token_ids = tokenizer.encode_prompt(prompt + answer)
    # In bytes and not in tokens, which the answer may change; a blank that SentencePiece puts first is in both.
    num_bytes = len(b"".join(map(tokenizer.token_bytes, tokenizer.encode_prompt(prompt)))) if prompt else 0
    place = end = 0
    while place < len(token_ids) and end + len(tokenizer.token_bytes(token_ids[place])) <= num_bytes:
        end += len(tokenizer.token_bytes(token_ids[place]))
        place += 1
    return Document(
        prompt=prompt,
        answer=answer,
        prompt_token_ids=tuple(token_ids[:place]),
        answer_token_ids=tuple(token_ids[place:]),
        joined=end < num_bytes,
    )
