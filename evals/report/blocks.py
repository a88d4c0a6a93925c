"""What a page is made of, before it is Markdown or HTML.

Text is Markdown, in which whatever a model or a record says has gone through `evals.export.escape_markdown`; cells are
plain text and escaped when they are written.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import pandas as pd

from evals.export import EMPTY
from evals.report.numbers import defined


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell of a table.

    Attributes:
        text: as it is read. detail: what belongs to it and may stand below it, such as an interval.
        sort: the number it stands for, if it stands for one. numeric: whether its column holds numbers.
        href: an address relative to `results/`, or one that begins with https://.
    """

    text: str
    detail: str = ""
    sort: float | None = None
    numeric: bool = False
    href: str | None = None
    bold: bool = False
    italic: bool = False


@dataclass(frozen=True, slots=True)
class Heading:
    """A heading of level 1 to 4; its text is Markdown."""

    level: int
    text: str


@dataclass(frozen=True, slots=True)
class Text:
    """Paragraphs and lists, in Markdown."""

    markdown: str


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        caption: plain text. frame: of :class:`Cell`; the first column names the row.
        models, sources: of each row, for the page's filter; empty where rows have none.
        published: whether its figures were published elsewhere, not measured.
    """

    caption: str
    frame: pd.DataFrame
    models: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    published: bool = False


@dataclass(frozen=True, slots=True)
class Plots:
    """Drawings, for the HTML page only: HTML whose texts are escaped already."""

    html: str


Block: TypeAlias = Heading | Text | Table | Plots
Row: TypeAlias = Mapping[str, Cell]


def make_table(
    caption: str,
    rows: Sequence[Row],
    *,
    models: Iterable[str] = (),
    sources: Iterable[str] = (),
    published: bool = False,
) -> Table:
    """A table of rows; one that lacks a column is empty there."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    cells = [[row.get(name, Cell(EMPTY)) for name in columns] for row in rows]
    frame = pd.DataFrame(cells, columns=columns, dtype=object)
    return Table(caption, frame, tuple(models), tuple(sources), published)


def texts(table: Table) -> pd.DataFrame:
    """The plain texts of a table."""
    return table.frame.map(plain_text)


def plain_text(cell: Cell) -> str:
    """A cell's text with its detail."""
    return f"{cell.text} {cell.detail}" if cell.detail else cell.text


def text_cell(text: object, **options: Any) -> Cell:
    """Text, or a dash for `None` and blanks."""
    return Cell(EMPTY if text is None or not str(text).strip() else str(text), **options)


def number_cell(text: str, value: float | None, **options: Any) -> Cell:
    """A number as it is read, and the value its column is sorted by."""
    return Cell(text, sort=defined(value), numeric=True, **options)
