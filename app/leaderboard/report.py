"""The whole report, `results/README.md`, as this page shows it."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path
from urllib.parse import unquote

from app.links import samples_of
from model.interface import InvalidRequest

NAME = "README.md"
_HEADING = re.compile(r"#+ (.*)")
_ITEMS = re.compile(r"\]\(runs/([^/)]+)/items\.jsonl\)")
_ELSEWHERE = re.compile(r"(?<!!)\[((?:[^\[\]\\]|\\.)*)\]\((?!https://|samples\?)[^)]*\)")


def report_markdown(results: Path) -> str:
    """Its text, in which links to a run's items lead to the sample browser; other links within the folder are texts,
    and each table scrolls by itself where it is wider than the page, also by keyboard.

    Raises:
        InvalidRequest: it cannot be read.
    """
    try:
        text = (results / NAME).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        raise InvalidRequest("the report cannot be read: run `make results`") from None
    text = _ITEMS.sub(lambda found: f"]({samples_of(unquote(found[1]))})", text)
    return "\n".join(_with_regions(_ELSEWHERE.sub(r"\1", text).splitlines()))


def _with_regions(lines: Iterable[str]) -> Iterator[str]:
    """Markdown in which every table is in a region of its own, named by the heading above it."""
    heading = "The report"
    for is_table, part in groupby(lines, lambda line: line.startswith("|")):
        if is_table:
            # Its title is its name: Gradio's sanitiser takes an `aria-label` away.
            yield f'<div class="scroll" tabindex="0" role="region" title="{html.escape(heading)}">'
            yield ""  # after which Markdown is read again
            yield from part
            yield from ("", "</div>", "")
        else:
            for line in part:
                if found := _HEADING.match(line):
                    heading = found[1].replace("`", "")
                yield line
