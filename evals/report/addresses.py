"""Addresses that may be linked to."""

from __future__ import annotations

import re
from urllib.parse import quote

_WEB = re.compile(r"https?://[A-Za-z0-9.-]+(:\d+)?(/.*)?", re.DOTALL)
_INSIDE = re.compile(r"runs/[A-Za-z0-9._~%-]+/[A-Za-z0-9._-]+")


def safe_address(address: str | None) -> str | None:
    """A web page's address, or one of a file in `results/runs`, quoted for Markdown and HTML; `None` for all others."""
    if address is None:
        return None
    if _INSIDE.fullmatch(address):
        return address
    return quote(address, safe="/:?#=&%,;+~@!$-._") if _WEB.fullmatch(address) else None
