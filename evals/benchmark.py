"""What a benchmark is to the loader: where its rows are, and how one is read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

Row: TypeAlias = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """One benchmark's place on the Hub and the shape of its rows.

    Attributes:
        name: stem of its file in a folder, such as `arc_easy`.
        hub_path, hub_config: arguments of `datasets.load_dataset`.
        scored_split, shot_split: Hub splits whose rows are scored, and from which shots are drawn.
        read_row: checks one raw row and gives its normalised columns, `id` among them; raises DataError
            with the column and the rule. Its first argument says where the row stands.
        has_ids: whether the rows bring ids, which must differ; otherwise `read_row` makes the id from the content, and
            a row that is there again gets a number behind it.
        text_column: the column that makes an item what it is: a shot never has the item's own.
        same_column: the column a shot must share with its item, such as MMLU's subject; `None` for any shot.
        shots_are_items: whether an item's shot is another scored item, as there is no other split.
    """

    name: str
    hub_path: str
    hub_config: str
    scored_split: str
    shot_split: str
    read_row: Callable[[str, Mapping[str, Any]], Row]
    has_ids: bool = True
    text_column: str = "question"
    same_column: str | None = None
    shots_are_items: bool = False

    def group(self, row: Row) -> Any:
        """What a shot must share with the row."""
        return row[self.same_column] if self.same_column else None
