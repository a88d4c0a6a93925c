"""Products in Triton's interpreter whose entries are sums in a fixed order.

The interpreter gives `tl.dot` to numpy's BLAS. On some processors (seen on an AMD Zen 5) it adds up a row's products in
an order that depends on which row of the tile it is. A tensor core does not, so tests of equal bits must not see it.
"""

from __future__ import annotations

from typing import Any

import pytest
from triton.runtime.interpreter import InterpreterBuilder, TensorHandle


def add_in_a_fixed_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """Until the test ends, each entry of a product is added up from the first product to the last."""

    def create_dot(self: Any, a: Any, b: Any, d: Any, input_precision: Any, max_num_imprecise_acc: Any) -> TensorHandle:
        one, other = (handle.data.astype(d.data.dtype) for handle in (a, b))
        products = one[..., :, :, None] * other[..., None, :, :]
        return TensorHandle(products.sum(axis=-2) + d.data, d.dtype.scalar)

    monkeypatch.setattr(InterpreterBuilder, "create_dot", create_dot)
