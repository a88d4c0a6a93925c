"""A table of vectors, as the families call it."""

from __future__ import annotations

import torch
from torch import nn


def embedding(num_embeddings: int, embedding_dim: int) -> nn.Embedding:
    """`torch.nn.Embedding` for inference, [num_embeddings, embedding_dim], whose numbers have yet to be given.

    Its own constructor draws them, for which torch, on the device `meta`, imports its compiler: a second, and 110 MB.
    """
    table = torch.empty(num_embeddings, embedding_dim)
    return nn.Embedding.from_pretrained(table)  # type: ignore[no-untyped-call, no-any-return]
