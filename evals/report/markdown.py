"""Blocks as GitHub Markdown."""

from __future__ import annotations

from collections.abc import Iterable

from evals.export import EMPTY, escape_markdown
from evals.report.addresses import safe_address
from evals.report.blocks import Block, Cell, Heading, Plots, Table, Text, plain_text


def to_markdown(blocks: Iterable[Block]) -> str:
    """One page. Plots are left out."""
    return "\n".join(_block(block) for block in blocks if not isinstance(block, Plots))


def _block(block: Heading | Text | Table) -> str:
    if isinstance(block, Heading):
        return f"{'#' * block.level} {block.text}\n"
    if isinstance(block, Text):
        return f"{block.markdown}\n"
    frame = block.frame.map(_cell)
    frame.columns = [escape_markdown(str(name)) for name in frame.columns]
    return frame.to_markdown(index=False, disable_numparse=True) + "\n"


def _cell(cell: Cell) -> str:
    text = escape_markdown(plain_text(cell)) or EMPTY
    if cell.bold and text != EMPTY:
        text = f"**{text}**"
    if cell.italic and text != EMPTY:
        text = f"*{text}*"
    address = safe_address(cell.href)
    return f"[{text}]({address})" if address else text
