"""The ranking, kept votes and replays, as HTML.

It goes into `gr.Markdown` without a sanitiser, so every text in it is escaped and on one line: a blank line would end
the HTML and have Markdown read the rest.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence

from app.arena.bradley_terry import PRIOR_DEVIATION
from app.arena.players import Player, labels
from app.arena.ranking import CONFIDENCE, MEAN_RATING, POINTS, Group
from app.arena.replay import Replayed
from app.arena.view import VERDICT_WORDS
from app.arena.vote import Vote

LONGEST_EXCERPT = 120


def ranking_html(groups: Sequence[Group[Player]], both_bad: Mapping[Player, int], *, only_blind: bool) -> str:
    """Tables of ratings, one a group, and how to read them."""
    if not groups:
        kind = "blind votes" if only_blind else "votes"
        unrated = sum(both_bad.values()) // 2
        besides = f" {count_of(unrated, 'vote')} “both bad” rank nobody." if unrated else ""
        return f"<p>There are no {kind} yet that say who is better.{besides}</p>"
    names = labels([*both_bad, *(standing.player for group in groups for standing in group.standings)])
    parts = [_group_table(group, names, both_bad) for group in groups]
    if len(groups) > 1:
        parts.insert(
            0,
            "<p>The players of different tables were never compared, not even through others: their ratings "
            "do not compare either.</p>",
        )
    return "".join(parts) + _RANKING_NOTE


_RANKING_NOTE = (
    "<p class='note'>Ratings are Bradley and Terry’s, with Davidson’s term for ties: where one of two wins, a lead of "
    f"400 points is odds of 10 to 1. Each table’s mean is {MEAN_RATING:.0f}. A weak prior (ratings are Normal with a "
    f"standard deviation of {PRIOR_DEVIATION * POINTS:.0f} points) keeps who never lost from being infinitely strong, "
    f"and draws ratings on few votes to the mean. Intervals are {CONFIDENCE:.0%} and take votes as independent: "
    "several by one person, or on one prompt, say less than that. Places are those a player may have by the intervals "
    "of differences, pair by pair. “Both bad” is kept and counted, but is no result between the two.</p>"
)


_RANKING_HEAD = ("Place", "Player", "Rating", f"{CONFIDENCE:.0%} interval", "Won", "Lost", "Tied", "Both bad")


def _group_table(group: Group[Player], names: Mapping[Player, str], both_bad: Mapping[Player, int]) -> str:
    least = min(standing.low for standing in group.standings)
    most = max(standing.high for standing in group.standings)

    def percent(rating: float) -> float:
        return 100 * (rating - least) / (most - least)

    rows = []
    for standing in group.standings:
        best, worst = standing.best_place, standing.worst_place
        left, right, middle = (percent(rating) for rating in (standing.low, standing.high, standing.rating))
        bar = (
            f'<span class="interval" aria-hidden="true"><i style="left:{left:.1f}%;width:{right - left:.1f}%"></i>'
            f'<b style="left:{middle:.1f}%"></b></span>'
        )
        numbers = (standing.num_wins, standing.num_losses, standing.num_ties, both_bad.get(standing.player, 0))
        counts = "".join(f'<td class="number">{number}</td>' for number in numbers)
        rows.append(
            f"<tr><td>{best if best == worst else f'{best}–{worst}'}</td>"
            f'<th scope="row">{one_line(names[standing.player])}</th>'
            f'<td class="number">{standing.rating:.0f}</td>'
            f"<td><div>{bar} {standing.low:.0f} to {standing.high:.0f}</div></td>{counts}</tr>"
        )
    caption = (
        f"{count_of(group.num_comparisons, 'vote')} between them. "
        f"Two equal players would tie in {group.tie_probability:.0%} of their votes."
    )
    return _table("Ranking", caption, _RANKING_HEAD, rows)


def _table(name: str, caption: str, head: Sequence[str], rows: Sequence[str]) -> str:
    """A table that scrolls by itself where it is wider than the page, also by keyboard."""
    titles = "".join(f'<th scope="col">{title}</th>' for title in head)
    return (
        f'<div class="table" tabindex="0" role="region" aria-label="{name}"><table><caption>{caption}</caption>'
        f"<thead><tr>{titles}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def votes_html(votes: Sequence[Vote], num_all: int) -> str:
    """The last votes of somebody, as a table."""
    if not votes:
        return "<p>You have not voted yet.</p>"
    names = labels(side.player for vote in votes for side in (vote.a, vote.b))
    rows = [
        f"<tr><td>{one_line(vote.time[:16].replace('T', ' '))}</td>"
        f'<td class="prompt">{one_line(excerpt(vote.questions[-1]))}</td>'
        f"<td>{one_line(names[vote.a.player])}</td><td>{one_line(names[vote.b.player])}</td>"
        f"<td>{VERDICT_WORDS[vote.verdict]}</td><td>{'hidden' if vote.is_blind else 'shown'}</td></tr>"
        for vote in votes
    ]
    caption = f"The last {len(votes)} of {num_all} votes" if num_all > len(votes) else count_of(num_all, "vote")
    return _table("Your votes", caption, ("Time (UTC)", "Prompt", "A", "B", "Vote", "Names"), rows)


def vote_choice(vote: Vote) -> str:
    """A vote in a list to choose from."""
    time = vote.time[:16].replace("T", " ")
    return f"{time} · {VERDICT_WORDS[vote.verdict]} · {excerpt(vote.questions[-1], 60)}"


def replay_html(results: Sequence[Replayed], num_all: int) -> str:
    """How the answers that were run again compare with the kept ones."""
    waiting = f'<p role="status">{len(results)} of {num_all} answers written again.</p>'
    return waiting + "".join(_replayed(one, names_turn=num_all > 2) for one in results)


def _replayed(one: Replayed, *, names_turn: bool) -> str:
    where = f"{one.side}, question {one.turn + 1}" if names_turn else one.side
    if one.text is None:
        return f"<p><strong>{where}</strong>: not replayed: {one_line(one.reasons[0])}.</p>"
    stopped = " up to where it was stopped" if one.kept.finish_reason == "abort" else ""
    number = len(one.kept.token_ids)
    if one.is_identical:
        verdict = f"identical{stopped}, token for token ({number} tokens, seed {one.kept.seed})."
    else:
        verdict = f"differs from token {(one.first_difference or 0) + 1} of {number} on (seed {one.kept.seed})."
    if one.reasons:
        why = f" What has changed since: {'; '.join(one.reasons)}."
    elif one.is_identical:
        why = ""
    else:
        why = (
            " The engine is as it was then. What is left is that sums depend on what else is computed at the same time,"
            " which may tip a close choice, above all in bfloat16 and on a GPU."
        )
    texts = (
        ""
        if one.is_identical
        else (f"<dl><dt>Then</dt><dd>{one_line(one.kept.text)}</dd><dt>Now</dt><dd>{one_line(one.text)}</dd></dl>")
    )
    return f"<p><strong>{where}</strong>: {one_line(verdict + why)}</p>{texts}"


def count_of(number: int, thing: str) -> str:
    """Such as `1 vote`, `2 votes`."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def excerpt(text: str, longest: int = LONGEST_EXCERPT) -> str:
    """The beginning of a text, on one line."""
    line = " ".join(text.split())
    return line if len(line) <= longest else f"{line[: longest - 1]}…"


def one_line(text: str) -> str:
    """A text as HTML on one line."""
    return html.escape(" ".join(text.split()))
