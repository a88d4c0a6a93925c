"""Players and their names."""

from __future__ import annotations

from dataclasses import replace

from app.arena.players import Player, labels

PLAYER = Player(
    model="m",
    setting="Greedy",
    weights_sha256="a" * 64,
    rope_position_dtype="float32",
    temperature=0.0,
    top_p=1.0,
    top_k=0,
    min_p=0.0,
    repetition_penalty=1.0,
)


def test_a_key_gives_its_player_back() -> None:
    assert Player.from_key(PLAYER.key) == PLAYER
    assert replace(PLAYER, weights_sha256="b" * 64).key != PLAYER.key


def test_names_say_what_tells_players_apart_and_no_more() -> None:
    retrained = replace(PLAYER, weights_sha256="b" * 64)
    other_values = replace(PLAYER, setting="Balanced", temperature=0.7)
    older_values = replace(PLAYER, setting="Balanced", temperature=0.5, rope_position_dtype="bfloat16")
    names = labels([PLAYER, retrained, other_values, older_values, PLAYER])
    assert names[PLAYER] == "m · Greedy (weights aaaaaaaa)"
    assert names[retrained] == "m · Greedy (weights bbbbbbbb)"
    assert names[older_values].startswith("m · Balanced (bfloat16 positions) (temperature 0.5, top_p 1")
    assert labels([PLAYER, other_values]) == {PLAYER: "m · Greedy", other_values: "m · Balanced"}
