"""What the controls beside a conversation hold, and how it becomes the engine's sampling parameters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

from model.interface import MAX_SEED, InvalidRequest, SamplingParams


@dataclass(frozen=True, kw_only=True, slots=True)
class Preset:
    """Values of several controls; `max_tokens` is left as it is where a preset has none."""

    temperature: float
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    max_tokens: int | None = None


PRESETS: dict[str, Preset] = {
    "Greedy": Preset(temperature=0.0),
    "Balanced": Preset(temperature=0.7, top_p=0.9),
    "Creative": Preset(temperature=1.0, min_p=0.05),
    # persimmon-ai-labs/adept-inference, megatron/text_generation_server.py; its top_p of 0.0 means off.
    "Adept": Preset(temperature=1.0, max_tokens=64),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class ChatSettings:
    """What the controls beside the conversation hold, in their own types; `sampling` checks it.

    Attributes:
        max_tokens: `None` is as many as the context holds. seed: as typed; empty draws one.
        stop: as typed, one string a line, with `\\n`, `\\t` and `\\\\` for a newline, a tab and a backslash.
        prefix: text put before the whole conversation.
    """

    temperature: float | None = 0.7
    top_p: float | None = 1.0
    top_k: float | None = 0
    min_p: float | None = 0.0
    repetition_penalty: float | None = 1.0
    max_tokens: float | None = 256
    seed: str = ""
    stop: str = ""
    prefix: str = ""

    def filled(self, preset: Preset) -> ChatSettings:
        """With what a preset says."""
        return replace(self, **{name: value for name, value in asdict(preset).items() if value is not None})

    def sampling(self, format_stop: Sequence[str]) -> SamplingParams:
        """The engine's parameters, with the chat format's own stop strings first.

        Raises:
            InvalidRequest: a value breaks its rule.
        """
        return SamplingParams(
            temperature=_number("temperature", self.temperature),
            top_p=_number("top_p", self.top_p),
            top_k=_whole(_number("top_k", self.top_k)),
            min_p=_number("min_p", self.min_p),
            repetition_penalty=_number("repetition_penalty", self.repetition_penalty),
            max_tokens=None if self.max_tokens is None else _whole(self.max_tokens),
            seed=parse_seed(self.seed),
            stop=tuple(dict.fromkeys([*format_stop, *parse_stop_strings(self.stop)])),
        )


def _number(name: str, value: float | None) -> float:
    if value is None:
        raise InvalidRequest(f"{name} is empty: enter a number")
    return value


def _whole(value: float) -> int:
    """An int where the value is one (browsers send 40 as 40.0 or 40); other values go on to be refused by name."""
    return int(value) if isinstance(value, float) and value.is_integer() else value  # type: ignore[return-value]


def parse_seed(text: str) -> int | None:
    """The seed in a text field; empty is `None`.

    Raises:
        InvalidRequest: it is not a whole number from 0 to MAX_SEED.
    """
    if not text.strip():
        return None
    digits = text.strip()
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 30 and int(digits) <= MAX_SEED):
        raise InvalidRequest(
            f"seed={digits!r} is not allowed: seed must be a whole number from 0 to {MAX_SEED}, or empty"
        )
    return int(digits)


def parse_stop_strings(text: str) -> list[str]:
    """One stop string a line; blank lines are skipped.

    Raises:
        InvalidRequest: a backslash is followed by something else than n, t or a backslash.
    """
    escapes = {"n": "\n", "t": "\t", "\\": "\\"}
    strings = []
    for line in filter(None, text.splitlines()):
        characters = iter(line)
        decoded = ""
        for character in characters:
            if character == "\\":
                code = next(characters, "")
                if code not in escapes:
                    raise InvalidRequest(f"the stop string {line!r} has \\{code}: only \\n, \\t and \\\\ are known")
                decoded += escapes[code]
            else:
                decoded += character
        strings.append(decoded)
    return strings
