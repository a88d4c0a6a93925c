"""A vote and everything needed to replay it, as plain data that goes to JSON and back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, TypeAlias, get_args

from app.arena.players import Player
from model.interface import Completion, Engine, FinishReason, InvalidRequest, SamplingParams

Verdict: TypeAlias = Literal["A", "B", "tie", "both bad"]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)

FORMAT = 1
"""Of the record; a reader refuses one it does not know."""


@dataclass(frozen=True, kw_only=True, slots=True)
class KeptAnswer:
    """One answer. `prompt`: exactly what the model read; the other fields are `Completion`'s and `Timing`'s."""

    prompt: str
    text: str
    token_ids: tuple[int, ...]
    finish_reason: FinishReason
    stop_reason: str | int | None
    seed: int
    num_prompt_tokens: int
    queued_s: float
    ttft_s: float | None
    total_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class KeptSide:
    """One side of a comparison.

    Attributes:
        setting: the name of the sampling values. sampling: all of `SamplingParams` as JSON has it, with the seed as it
            was asked for.
        chat_format: the name of the chat template. engine: all of `EngineInfo`.
        answers: one a question.
    """

    setting: str
    sampling: Mapping[str, Any]
    chat_format: str
    engine: Mapping[str, Any]
    answers: tuple[KeptAnswer, ...]

    @property
    def player(self) -> Player:
        info = self.engine
        return Player(
            model=info["model_name"],
            setting=self.setting,
            weights_sha256=info["weights_sha256"],
            rope_position_dtype=info["rope_position_dtype"],
            temperature=float(self.sampling["temperature"]),  # 0 and 0.0 are the same player
            top_p=float(self.sampling["top_p"]),
            top_k=int(self.sampling["top_k"]),
            min_p=float(self.sampling["min_p"]),
            repetition_penalty=float(self.sampling["repetition_penalty"]),
        )

    def params(self, answer: KeptAnswer) -> SamplingParams:
        """What gives this answer again, with the seed that was drawn for it. One that was stopped by hand is asked for
        up to the token where it was."""
        values = dict(self.sampling) | {
            "stop": tuple(self.sampling["stop"]),
            "stop_token_ids": tuple(self.sampling["stop_token_ids"]),
            "logit_bias": {int(token): bias for token, bias in self.sampling["logit_bias"].items()},
        }
        params = replace(SamplingParams(**values), seed=answer.seed)
        return replace(params, max_tokens=len(answer.token_ids)) if answer.finish_reason == "abort" else params


def kept_answer(prompt: str, completion: Completion) -> KeptAnswer:
    """What is kept of a finished answer."""
    return KeptAnswer(
        prompt=prompt,
        text=completion.text,
        token_ids=completion.token_ids,
        finish_reason=completion.finish_reason,
        stop_reason=completion.stop_reason,
        seed=completion.seed,
        num_prompt_tokens=completion.num_prompt_tokens,
        queued_s=completion.timing.queued_s,
        ttft_s=completion.timing.ttft_s,
        total_s=completion.timing.total_s,
    )


def kept_side(engine: Engine, setting: str, params: SamplingParams, answers: tuple[KeptAnswer, ...]) -> KeptSide:
    """What is kept of a side that has answered."""
    return KeptSide(
        setting=setting,
        sampling=json.loads(json.dumps(asdict(params))),
        chat_format=engine.chat_template.name,
        engine=engine.info.as_dict(),
        answers=answers,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Vote:
    """What somebody thought of two answers to the same questions.

    Attributes:
        id: the round's. time: when it was given, ISO 8601 in UTC. owner: whose it is.
        is_blind: whether the names were hidden until it was given. is_swapped: whether chance put the player that was
            chosen second on side A; always false where the names were seen.
        prefix: text before the conversation. questions: oldest first.
    """

    id: str
    time: str
    owner: str
    verdict: Verdict
    is_blind: bool
    is_swapped: bool
    prefix: str
    questions: tuple[str, ...]
    a: KeptSide
    b: KeptSide

    def to_json(self) -> str:
        """One line of JSON."""
        return json.dumps({"format": FORMAT} | asdict(self), ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Vote:
        """Undoes `to_json`.

        Raises:
            InvalidRequest: the record is of another format.
        """
        values = json.loads(text)
        if (found := values.pop("format", None)) != FORMAT:
            raise InvalidRequest(f"the vote is of format {found}: this program reads format {FORMAT}, use a newer one")
        return cls(
            **values
            | {
                "questions": tuple(values["questions"]),
                "a": _side_from(values["a"]),
                "b": _side_from(values["b"]),
            }
        )


def _side_from(values: dict[str, Any]) -> KeptSide:
    answers = tuple(KeptAnswer(**answer | {"token_ids": tuple(answer["token_ids"])}) for answer in values["answers"])
    return KeptSide(**values | {"answers": answers})
