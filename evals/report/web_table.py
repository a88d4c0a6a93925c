"""A table as HTML: sortable, with what the page's filter looks at."""

from __future__ import annotations

from html import escape

from evals.export import EMPTY
from evals.report.addresses import safe_address
from evals.report.blocks import Cell, Table

NO_BREAK = "\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}"


def html_table(table: Table) -> str:
    """The table in a box that scrolls by itself.

    `data-sort` holds the number a cell stands for, and nothing where it is undefined; a cell without it is sorted by
    its text.
    """
    name = escape(table.caption)
    kind = "published" if table.published else "measured"
    columns = [str(column) for column in table.frame.columns]
    rows = [list(row) for row in table.frame.itertuples(index=False, name=None)]
    numeric = [any(row[place].numeric for row in rows) for place in range(len(columns))]
    head = "".join(
        f'<th scope="col"{_class(is_number)}>{escape(column.replace(" = ", NO_BREAK))}</th>'
        for column, is_number in zip(columns, numeric, strict=True)
    )
    lines = [
        f'<div class="scroll" role="region" aria-label="{name}" tabindex="0">',
        f'<table class="sortable {kind}">',
        f"<caption>{name}</caption>",
        f"<thead><tr>{head}</tr></thead>",
        "<tbody>",
    ]
    for place, row in enumerate(rows):
        cells = "".join(_cell(cell, first=column == 0) for column, cell in enumerate(row))
        lines.append(f"<tr{_data('model', table.models, place)}{_data('source', table.sources, place)}>{cells}</tr>")
    return "\n".join([*lines, "</tbody>", "</table>", "</div>"])


def _cell(cell: Cell, *, first: bool) -> str:
    text = escape(cell.text)
    if cell.bold and cell.text != EMPTY:
        text = f"<strong>{text}</strong>"
    if cell.italic and cell.text != EMPTY:
        text = f"<em>{text}</em>"
    if cell.detail:
        text = f"{text} <small>{escape(cell.detail)}</small>"
    address = safe_address(cell.href)
    if address:
        text = f'<a href="{escape(address)}">{text}</a>'
    if first:
        return f'<th scope="row">{text}</th>'
    if cell.numeric:
        return f'<td class="n" data-sort="{"" if cell.sort is None else f"{cell.sort:.6f}"}">{text}</td>'
    return f'<td data-sort="">{text}</td>' if cell.text == EMPTY else f"<td>{text}</td>"


def _class(numeric: bool) -> str:
    return ' class="n"' if numeric else ""


def _data(name: str, values: tuple[str, ...], place: int) -> str:
    return f' data-{name}="{escape(values[place])}"' if values else ""
