"""How each family writes a conversation as one prompt."""

from __future__ import annotations

from collections.abc import Sequence

from model.interface import ChatMessage, InvalidRequest


class TurnTemplate:
    """Turns one after the other, each behind a marker; the first may have an introduction before it.

    None of these formats has a system role: a prefix is text before everything else, with a blank line after it.
    """

    name: str
    stop: tuple[str, ...]
    introduction = ""
    user: str  # marker before the user's turn
    assistant: str  # marker before the answer, without the blank that models write after it
    blank = " "  # between the marker and a known answer
    separator: str  # between turns

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
            marker = f"{self.assistant}{self.blank}" if message.role == "assistant" else self.user
            turns.append(f"{marker}{message.content}")
        prompt = prefix + self.introduction + self.separator.join(turns)
        return prompt if messages[-1].role == "assistant" else f"{prompt}{self.separator}{self.assistant}"

    def answer(self, text: str) -> str:
        """A completion's text without its outer blanks."""
        return text.strip()


class AdeptChatTemplate(TurnTemplate):
    """`human: a\\n\\nadept: b\\n\\nhuman: c\\n\\nadept:`, Persimmon's (persimmon-ai-labs/adept-inference, README.md).

    Adept's server stops only at the end of a document, so a client must cut where the next human turn begins.
    """

    name = "adept"
    stop = ("\n\nhuman:",)
    user, assistant, separator = "human: ", "adept:", "\n\n"


class InstructChatTemplate(TurnTemplate):
    """The prompt MPT-7B-Instruct was tuned on (its model card, after Databricks' Dolly); further turns repeat the
    markers, which the model was not trained on."""

    name = "dolly-instruct"
    stop = ("\n### Instruction:",)
    introduction = (
        "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n"
    )
    user, assistant, blank, separator = "### Instruction:\n", "### Response:\n", "", "\n"


class TranscriptChatTemplate(TurnTemplate):
    """A plain transcript, for models without a chat format of their own, such as the base Llama 2."""

    name = "transcript"
    stop = ("\n\nUser:",)
    user, assistant, separator = "User: ", "Assistant:", "\n\n"
