"""The whole report, `results/README.md`, as this page shows it."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote

from app.links import samples_of
from model.interface import InvalidRequest

NAME = "README.md"
_ITEMS = re.compile(r"\]\(runs/([^/)]+)/items\.jsonl\)")
_ELSEWHERE = re.compile(r"(?<!!)\[((?:[^\[\]\\]|\\.)*)\]\((?!https://|samples\?)[^)]*\)")


def report_markdown(results: Path) -> str:
    """Its text, in which links to a run's items lead to the sample browser; other links within the folder are texts.

    Raises:
        InvalidRequest: it cannot be read.
    """
    try:
        text = (results / NAME).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        raise InvalidRequest("the report cannot be read: run `make results`") from None
    text = _ITEMS.sub(lambda found: f"]({samples_of(unquote(found[1]))})", text)
    return _ELSEWHERE.sub(r"\1", text)
