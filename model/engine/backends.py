"""torch's settings for a process that runs models, stated in one place; they hold for the whole process."""

from __future__ import annotations

import torch


def set_backends() -> None:
    """Float32 is computed in float32, also on a GPU, where torch could take TF32 (10 bits of mantissa) for it: float32
    is there for checking. Sums of bfloat16 and float16 products are kept in float32 to their end, also where a product
    is split over its inner dimension."""
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False
    torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction = False
