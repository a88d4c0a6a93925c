"""Names of headings in addresses, as GitHub makes them."""

from __future__ import annotations

import re
from collections import Counter


class Slugs:
    """Gives each heading of one page its own name."""

    def __init__(self) -> None:
        self._seen: Counter[str] = Counter()

    def of(self, heading: str) -> str:
        """`Speed` gives `speed`, and a second one `speed-1`. Only letters, digits, `-` and `_` are left."""
        plain = re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-") or "section"
        number = self._seen[plain]
        self._seen[plain] += 1
        return f"{plain}-{number}" if number else plain
