"""Votes and the ranking as CSV and as JSON lines."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from app.arena.players import SAMPLING_VALUES, Player, labels
from app.arena.ranking import Group
from app.arena.vote import KeptSide, Vote
from app.export import CsvCell, to_csv

_VOTE_COLUMNS = ("vote", "turn", "time", "verdict", "is_blind", "is_swapped", "prefix", "prompt")
_ENGINE_COLUMNS = ("weights_sha256", "tokenizer_sha256", "device", "dtype", "rope_position_dtype")
_SIDE_COLUMNS = (
    "model",
    "setting",
    *_ENGINE_COLUMNS,
    *SAMPLING_VALUES,
    "max_tokens",
    "stop",
    "seed",
    "answer",
    "finish_reason",
    "num_prompt_tokens",
    "num_tokens",
    "ttft_s",
    "total_s",
)


def votes_csv(votes: Iterable[Vote]) -> str:
    """One row a question: a vote on three turns is three rows with the same `vote`."""
    columns = [*_VOTE_COLUMNS, *(f"{name}_{side}" for side in "ab" for name in _SIDE_COLUMNS)]
    rows: list[list[CsvCell]] = [
        [
            vote.id,
            turn + 1,
            vote.time,
            vote.verdict,
            vote.is_blind,
            vote.is_swapped,
            vote.prefix,
            question,
            *_side_cells(vote.a, turn),
            *_side_cells(vote.b, turn),
        ]
        for vote in votes
        for turn, question in enumerate(vote.questions)
    ]
    return to_csv(columns, rows)


def _side_cells(side: KeptSide, turn: int) -> list[CsvCell]:
    answer = side.answers[turn]
    return [
        side.engine["model_name"],
        side.setting,
        *(side.engine[name] for name in _ENGINE_COLUMNS),
        *(side.sampling[name] for name in SAMPLING_VALUES),
        side.sampling["max_tokens"],
        json.dumps(side.sampling["stop"], ensure_ascii=False),
        answer.seed,
        answer.text,
        answer.finish_reason,
        answer.num_prompt_tokens,
        len(answer.token_ids),
        answer.ttft_s,
        answer.total_s,
    ]


def votes_json_lines(votes: Iterable[Vote]) -> str:
    """One vote a line, with all that is known of it."""
    return "".join(f"{vote.to_json()}\n" for vote in votes)


def ranking_rows(groups: Sequence[Group[Player]], both_bad: Mapping[Player, int]) -> list[dict[str, Any]]:
    """One row a player, group by group; `group` counts from 1, and ratings of different groups do not compare."""
    names = labels([standing.player for group in groups for standing in group.standings])
    return [
        {
            "group": number,
            "player": names[standing.player],
            "rating": round(standing.rating, 1),
            "low": round(standing.low, 1),
            "high": round(standing.high, 1),
            "best_place": standing.best_place,
            "worst_place": standing.worst_place,
            "comparisons": standing.num_comparisons,
            "wins": standing.num_wins,
            "losses": standing.num_losses,
            "ties": standing.num_ties,
            "both_bad": both_bad.get(standing.player, 0),
            "tie_probability_of_equals": round(group.tie_probability, 4),
            "model": standing.player.model,
            "setting": standing.player.setting,
            "weights_sha256": standing.player.weights_sha256,
            "rope_position_dtype": standing.player.rope_position_dtype,
            **{name: getattr(standing.player, name) for name in SAMPLING_VALUES},
        }
        for number, group in enumerate(groups, 1)
        for standing in group.standings
    ]


def ranking_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows of `ranking_rows`, of which there must be one for the columns to be known; no row is an empty text."""
    return to_csv(list(rows[0]), [list(row.values()) for row in rows]) if rows else ""


def ranking_json_lines(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows of `ranking_rows`, one a line."""
    return "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows)
