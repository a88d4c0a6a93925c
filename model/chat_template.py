"""How each family writes a conversation as one prompt."""

from __future__ import annotations

from collections.abc import Sequence

from model.interface import ChatMessage, InvalidRequest


class AdeptChatTemplate:
    """`human: a\\n\\nadept: b\\n\\nhuman: c\\n\\nadept:` as Adept's release uses it (persimmon-ai-labs/adept-inference,
    README.md). There is no system role: a prefix is text before the first turn, with a blank line after it.
    """

    name = "adept"
    stop = ("\n\nhuman:",)  # the server stops only at end of document; a client must cut here too

    def render(self, messages: Sequence[ChatMessage]) -> str:
        """The prompt up to where the next answer begins, or to the end of an answer to be continued.

        Raises:
            InvalidRequest: no user message, or turns out of order.
        """
        messages = list(messages)
        prefix = ""
        if messages and messages[0].role == "prefix":
            text = messages.pop(0).content.strip()
            prefix = f"{text}\n\n" if text else ""
        if not messages:
            raise InvalidRequest("the conversation has no user message: write one")
        turns = []
        for i, message in enumerate(messages):
            expected = "assistant" if i % 2 else "user"
            if message.role != expected:
                raise InvalidRequest(
                    f"message {i + 1} of the conversation is from {message.role!r}: user and assistant must take "
                    "turns, the user first"
                )
            speaker = "adept" if message.role == "assistant" else "human"
            turns.append(f"{speaker}: {message.content}")
        prompt = prefix + "\n\n".join(turns)
        return prompt if messages[-1].role == "assistant" else f"{prompt}\n\nadept:"

    def answer(self, text: str) -> str:
        """A completion's text without its outer blanks."""
        return text.strip()
