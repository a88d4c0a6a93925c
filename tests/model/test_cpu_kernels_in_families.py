"""The three families with a CPU's compiled kernels, against the same models without."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest
from kernel_tables import compare

from kernels.cpu import threads
from model.interface import InvalidRequest, SamplingParams
from model.open_engine import DEMO_CHECKPOINTS, open_engine


@pytest.mark.skipif(threads.missing() is not None, reason=f"Numba's kernels cannot run here: {threads.missing()}")
@pytest.mark.parametrize("checkpoint", DEMO_CHECKPOINTS, ids=lambda path: path.name)
def test_a_cpu_s_kernels_give_the_references_answers_and_scores(checkpoint: Path) -> None:
    plain = open_engine(str(checkpoint), device="cpu", kernels="reference", max_num_requests=4)
    kernels = open_engine(str(checkpoint), device="cpu", max_num_requests=4)
    assert (kernels.info.kernels, kernels.info.kernels_note) == ("Numba kernels", None)
    assert kernels.info.attention_backend.startswith("Numba paged attention where new tokens are few, torch ")
    compare(plain, kernels, SamplingParams(max_tokens=40, temperature=0.0, ignore_eos=True))


def test_attention_asked_for_by_name_is_what_runs() -> None:
    checkpoint = str(DEMO_CHECKPOINTS[0])
    with pytest.raises(InvalidRequest, match=r"attention_backend='sdpa' is not allowed with kernels='numba'"):
        open_engine(checkpoint, device="cpu", attention_backend="sdpa", kernels="numba")
    with closing(open_engine(checkpoint, device="cpu", attention_backend="sdpa")) as engine:
        assert engine.info.kernels == "torch's operations"
        assert engine.info.attention_backend == "torch scaled_dot_product_attention over gathered KV pages"
