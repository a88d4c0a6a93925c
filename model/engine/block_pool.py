"""Who owns which KV block. Block 0 is the null block: padding points at it and nobody owns it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

NULL_BLOCK = 0


class BlockPool:
    """Blocks 1 to num_blocks - 1, each free or owned once.

    Args:
        num_blocks: blocks in the cache, the null block included; at least 2.
        block_size: tokens a block holds.
    """

    def __init__(self, num_blocks: int, block_size: int) -> None:
        if num_blocks < 2 or block_size < 1:
            raise ValueError(f"{num_blocks} blocks of {block_size} tokens cannot hold a sequence")
        self.num_blocks = num_blocks
        self.block_size = block_size
        self._free = deque(range(1, num_blocks))
        self._owned: set[int] = set()

    @property
    def num_free(self) -> int:
        return len(self._free)

    @property
    def num_usable(self) -> int:
        """Blocks there are to own."""
        return self.num_blocks - 1

    def blocks_for(self, num_tokens: int) -> int:
        """Blocks that `num_tokens` tokens fill."""
        return -(-num_tokens // self.block_size)

    def allocate(self, count: int) -> list[int] | None:
        """`count` blocks, or `None`, with nothing changed, if there are not so many."""
        if count > len(self._free):
            return None
        blocks = [self._free.popleft() for _ in range(count)]
        self._owned.update(blocks)
        return blocks

    def free(self, blocks: Iterable[int]) -> None:
        """Give blocks back.

        Raises:
            ValueError: one of them is not owned: something was freed twice.
        """
        for block in blocks:
            if block not in self._owned:
                raise ValueError(f"block {block} is freed but nobody owns it")
            self._owned.remove(block)
            self._free.append(block)
