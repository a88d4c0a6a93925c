"""The classification heads of a running engine, by name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from model.checkpoint.head import HeadWeights, read_head
from model.interface import ClassificationHead, EngineInfo, InvalidRequest


class Heads:
    """Heads that can be taken up while others are asked, from any thread.

    Args:
        info: of the engine; heads must have been trained on its weights.
        hidden_size: of its model.
        own: the checkpoint's own head, which stays.
    """

    def __init__(self, info: EngineInfo, *, hidden_size: int, own: HeadWeights | None = None) -> None:
        self._info = info
        self._hidden_size = hidden_size
        self._own = own
        self._heads: dict[str, HeadWeights] = {} if own is None else {own.info.name: own}

    @property
    def infos(self) -> Mapping[str, ClassificationHead]:
        """By name, the checkpoint's own first."""
        return MappingProxyType({name: head.info for name, head in self._heads.items()})

    def attach(self, folder: Path) -> ClassificationHead:
        """Take up the head of a folder, in place of one with its name.

        Raises:
            CheckpointError: the folder holds none, or one for other weights.
            InvalidRequest: the name is that of the checkpoint's own head.
        """
        head = read_head(
            folder,
            base_name=self._info.model_name,
            base_sha256=self._info.weights_sha256,
            hidden_size=self._hidden_size,
        )
        if self._own is not None and head.info.name == self._own.info.name:
            raise InvalidRequest(f"head name {head.info.name!r} is the checkpoint's own head's: train it under another")
        self._heads = {**self._heads, head.info.name: head}  # a new one: others may be reading the old
        return head.info

    def choose(self, name: str | None) -> HeadWeights:
        """The head of that name; without one the checkpoint's own, or the only one.

        Raises:
            InvalidRequest: there is none, or none is chosen.
        """
        heads = self._heads
        if not heads:
            raise InvalidRequest(
                f"{self._info.model_name} has no classification head: attach one, or open a checkpoint that has one"
            )
        if name is None:
            if self._own is not None:
                return self._own
            if len(heads) == 1:
                return next(iter(heads.values()))
            raise InvalidRequest(f"head=None is not allowed where there are several: use one of {', '.join(heads)}")
        if name not in heads:
            raise InvalidRequest(f"head={name!r} is not there: use one of {', '.join(heads)}")
        return heads[name]
