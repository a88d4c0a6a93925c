"""Groups, ratings and places."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.arena.ranking import Comparison, rank


def test_only_connected_players_are_ranked_together() -> None:
    groups = rank(
        [
            Comparison("c", "d", "first", 2),
            Comparison("a", "b", "first", 6),
            Comparison("b", "e", "tie", 3),
            Comparison("a", "x", "second", 0),
        ]
    )
    assert [[standing.player for standing in group.standings] for group in groups] == [["a", "e", "b"], ["c", "d"]]
    for group in groups:
        ratings = [standing.rating for standing in group.standings]
        assert sum(ratings) / len(ratings) == pytest.approx(1000)
    assert [group.num_comparisons for group in groups] == [9, 2]
    first = groups[0].standings[0]
    assert (first.num_wins, first.num_losses, first.num_ties) == (6, 0, 0)
    assert rank([]) == ()


def test_four_hundred_points_are_odds_of_ten_to_one() -> None:
    (group,) = rank([Comparison("a", "b", "first", 100_000), Comparison("a", "b", "second", 10_000)])
    better, worse = group.standings
    assert better.rating - worse.rating == pytest.approx(400, abs=0.5)
    assert better.low < better.rating < better.high
    assert group.tie_probability < 0.01


def test_places_are_as_wide_as_the_votes_leave_them() -> None:
    votes = [Comparison("a", "b", "first", 40), Comparison("b", "c", "first", 6), Comparison("b", "c", "second", 5)]
    places = {one.player: (one.best_place, one.worst_place) for one in rank(votes)[0].standings}
    assert places == {"a": (1, 1), "b": (2, 3), "c": (2, 3)}


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.builds(
            lambda pair, outcome, count: Comparison(pair[0], pair[1], outcome, count),
            st.permutations("abcdef").map(lambda order: order[:2]),
            st.sampled_from(["first", "second", "tie"]),
            st.integers(1, 5),
        ),
        min_size=1,
        max_size=8,
    ),
    st.randoms(use_true_random=False),
)
def test_swapped_sides_and_another_order_rank_the_same(votes: list[Comparison[str]], random: object) -> None:
    swap = {"first": "second", "second": "first", "tie": "tie"}
    swapped = [Comparison(vote.second, vote.first, swap[vote.outcome], vote.count) for vote in votes]  # type: ignore[arg-type]
    random.shuffle(swapped)  # type: ignore[attr-defined]
    for one, other in zip(rank(votes), rank(swapped), strict=True):
        assert [standing.player for standing in one.standings] == [standing.player for standing in other.standings]
        for a, b in zip(one.standings, other.standings, strict=True):
            assert (a.rating, a.low, a.high) == pytest.approx((b.rating, b.low, b.high), abs=1e-4)
            assert a.num_comparisons == b.num_comparisons


def test_a_player_against_itself_is_refused() -> None:
    with pytest.raises(ValueError, match="two players differ"):
        rank([Comparison("a", "a", "tie")])
