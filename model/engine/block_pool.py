"""Who owns which KV block, and which blocks' contents can be found again.

Block 0 is the null block: padding points at it and nobody owns it. A block has as many owners as requests read it; with
none it is free, but keeps its content until it is taken, so that a later request with the same beginning finds it
(prefix cache). Free blocks are taken least recently used first.

A full block's content is named by what stands before it and its own tokens, compared in full: no hash stands for them,
so that two different beginnings can never be taken for each other.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import TypeAlias

NULL_BLOCK = 0

Content: TypeAlias = int
"""Names the tokens of a full block together with all before it; never given twice."""


class BlockPool:
    """Blocks 1 to num_blocks - 1.

    Args:
        num_blocks: blocks in the cache, the null block included; at least 2.
        block_size: tokens a block holds.
        caches_prefixes: whether contents can be found again; off where a token's key depends on more than the tokens
            before it.
    """

    def __init__(self, num_blocks: int, block_size: int, *, caches_prefixes: bool = True) -> None:
        if num_blocks < 2 or block_size < 1:
            raise ValueError(f"{num_blocks} blocks of {block_size} tokens cannot hold a sequence")
        self.num_blocks = num_blocks
        self.block_size = block_size
        self.caches_prefixes = caches_prefixes
        self._owners = [0] * num_blocks
        self._free: OrderedDict[int, None] = OrderedDict.fromkeys(range(1, num_blocks))  # least recently used first
        self._next_content: Content = 0
        self._roots: dict[str, Content] = {}
        self._block_of: dict[tuple[Content, tuple[int, ...]], tuple[int, Content]] = {}
        self._key_of: dict[int, tuple[Content, tuple[int, ...]]] = {}  # of blocks whose content can be found

    @property
    def num_free(self) -> int:
        return len(self._free)

    @property
    def num_usable(self) -> int:
        """Blocks there are to own."""
        return self.num_blocks - 1

    @property
    def num_findable(self) -> int:
        """Blocks whose content can be found, owned or not."""
        return len(self._key_of)

    def blocks_for(self, num_tokens: int) -> int:
        """Blocks that `num_tokens` tokens fill."""
        return -(-num_tokens // self.block_size)

    def allocate(self, count: int) -> list[int] | None:
        """`count` blocks of one owner, or `None`, with nothing changed, if there are not so many. What was in them is
        forgotten."""
        if count > len(self._free):
            return None
        blocks = [self._free.popitem(last=False)[0] for _ in range(count)]
        for block in blocks:
            self._owners[block] = 1
            key = self._key_of.pop(block, None)
            if key is not None:
                del self._block_of[key]
        return blocks

    def share(self, blocks: Iterable[int]) -> None:
        """One owner more for each, which may be free: they were found."""
        for block in blocks:
            if not self._owners[block]:
                del self._free[block]
            self._owners[block] += 1

    def free(self, blocks: Sequence[int]) -> None:
        """One owner less for each block of a sequence, given in order.

        Raises:
            ValueError: one of them has none: something was freed twice.
        """
        for block in reversed(blocks):  # ends are taken again before beginnings, which more sequences share
            if not self._owners[block]:
                raise ValueError(f"block {block} is freed but nobody owns it")
            self._owners[block] -= 1
            if not self._owners[block]:
                self._free[block] = None
                if block not in self._key_of:
                    self._free.move_to_end(block, last=False)

    def root(self, salt: str) -> Content:
        """Where sequences begin. Those of another salt (another model or adapter) share nothing."""
        if salt not in self._roots:
            self._roots[salt] = self._new_content()
        return self._roots[salt]

    def find(self, before: Content, tokens: tuple[int, ...]) -> tuple[int, Content] | None:
        """The block that holds `tokens` after `before`, and its content; it may be free, so :meth:`share` it."""
        return self._block_of.get((before, tokens))

    def publish(self, block: int, before: Content, tokens: tuple[int, ...]) -> Content:
        """Make a full, computed block findable. If another block has the same content already, that one stays."""
        if not self.caches_prefixes:
            return before
        key = (before, tokens)
        known = self._block_of.get(key)
        if known is not None:
            return known[1]
        content = self._new_content()
        self._block_of[key] = (block, content)
        self._key_of[block] = key
        return content

    def _new_content(self) -> Content:
        self._next_content += 1
        return self._next_content
