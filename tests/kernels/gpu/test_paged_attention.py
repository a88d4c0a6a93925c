"""The paged attention kernel, interpreted, against its reference."""

from __future__ import annotations

import pytest
import torch
from interpreter_products import add_in_a_fixed_order

from kernels.gpu.paged_attention import MAX_SPLITS, choose_num_splits, choose_tile, paged_attention
from kernels.paged_attention import paged_attention_reference

pytestmark = pytest.mark.slow

NAN = float("nan")


class Step:
    """Sequences of (cached tokens, new tokens) in scattered blocks; NaN wherever no sequence has a key."""

    def __init__(
        self,
        sequences: list[tuple[int, int]],
        *,
        num_heads: int = 2,
        num_kv_heads: int = 2,
        head_dim: int = 16,
        block_size: int = 16,
        dtype: torch.dtype = torch.float32,
        alibi: bool = False,
    ) -> None:
        generator = torch.Generator().manual_seed(7)

        def random(*shape: int) -> torch.Tensor:
            return torch.randn(*shape, generator=generator).to(dtype)

        lengths = [old + new for old, new in sequences]
        widths = [-(-length // block_size) for length in lengths]
        order = (torch.randperm(sum(widths), generator=generator) + 1).tolist()
        self.caches = torch.full((2, sum(widths) + 1, block_size, num_kv_heads, head_dim), NAN, dtype=dtype)
        # Entries past a sequence's blocks point far outside the cache: they must never be followed.
        self.block_tables = torch.full((len(sequences), max(widths) + 1), 1 << 40)
        for index, (length, width) in enumerate(zip(lengths, widths, strict=True)):
            table = self.block_tables[index, :width] = torch.tensor(
                [order.pop() for _ in range(width)], dtype=torch.int64
            )
            places = torch.arange(length)
            self.caches[:, table[places // block_size], places % block_size] = random(2, length, num_kv_heads, head_dim)
        new = torch.tensor([0] + [count for _, count in sequences])
        self.query_start_loc = new.cumsum(0)
        self.seq_lens = torch.tensor(lengths)
        self.query = random(int(new.sum()), num_heads, head_dim)
        self.slopes = torch.linspace(0.5, 0.01, num_heads) if alibi else None
        self.max_query_len, self.max_seq_len = int(new.max()), max(lengths)

    def run(self, **options: object) -> torch.Tensor:
        given: dict[str, object] = {
            "query_start_loc": self.query_start_loc,
            "seq_lens": self.seq_lens,
            "block_tables": self.block_tables,
            "max_query_len": self.max_query_len,
            "max_seq_len": self.max_seq_len,
            "scale": 0.3,
            "alibi_slopes": self.slopes,
            "out": torch.full_like(self.query, NAN),
        }
        return paged_attention(self.query, *self.caches, **(given | options))  # type: ignore[arg-type]

    def expected(self) -> torch.Tensor:
        """In float32, of the same numbers. The reference gathers whole blocks, so it gets no NaN and no wild entry."""
        key_cache, value_cache = self.caches.float().nan_to_num(0.0)
        known = self.block_tables.where(self.block_tables < len(key_cache), torch.zeros_like(self.block_tables))
        return paged_attention_reference(
            self.query.float(),
            key_cache,
            value_cache,
            query_start_loc=self.query_start_loc,
            seq_lens=self.seq_lens,
            block_tables=known,
            scale=0.3,
            alibi_slopes=self.slopes,
        )


def check(step: Step, **options: object) -> None:
    attended, half = step.run(**options), step.query.dtype != torch.float32
    torch.testing.assert_close(
        attended.float(), step.expected(), atol=2e-3 if half else 1e-5, rtol=2e-3 if half else 1e-5
    )


MIXED = [(70, 1), (0, 5), (33, 8), (0, 1), (90, 3), (15, 1), (16, 2)]


@pytest.mark.parametrize("num_splits", [None, 1, 3])
@pytest.mark.parametrize("alibi", [False, True])
def test_mixed_short_queries(alibi: bool, num_splits: int | None) -> None:
    check(Step(MIXED, alibi=alibi), num_splits=num_splits)


@pytest.mark.parametrize(
    ("num_heads", "num_kv_heads", "head_dim", "block_size"),
    [(6, 2, 16, 16), (6, 6, 10, 4), (4, 1, 24, 48), (10, 1, 16, 16), (3, 3, 80, 16)],
)
def test_odd_sizes(num_heads: int, num_kv_heads: int, head_dim: int, block_size: int) -> None:
    sizes = {"num_heads": num_heads, "num_kv_heads": num_kv_heads, "head_dim": head_dim, "block_size": block_size}
    check(Step([(50, 1), (7, 8), (0, 3)], **sizes, alibi=True), num_splits=2)
    check(Step([(0, 37), (21, 9), (40, 1)], **sizes))


@pytest.mark.parametrize("alibi", [False, True])
def test_prompts_with_and_without_cached_tokens(alibi: bool) -> None:
    check(Step([(0, 70), (45, 33), (64, 64), (3, 1), (0, 9)], num_heads=2, num_kv_heads=2, alibi=alibi))


@pytest.mark.parametrize("sequences", [[(150, 1), (40, 6)], [(30, 80)]], ids=["decode", "prompt"])
def test_float16(sequences: list[tuple[int, int]]) -> None:
    step = Step(sequences, num_heads=2, num_kv_heads=1, dtype=torch.float16, alibi=True)
    assert step.run().dtype == torch.float16
    check(step)


@pytest.mark.parametrize("num_splits", [1, 4])
def test_padding_rows_are_zero(num_splits: int) -> None:
    step = Step([(40, 1), (0, 0), (0, 2)])
    step.seq_lens[2] = 0
    attended = step.run(num_splits=num_splits)
    assert torch.equal(attended[1:], torch.zeros_like(attended[1:]))
    torch.testing.assert_close(attended, step.expected(), atol=1e-5, rtol=1e-5)


def test_strided_queries_and_rows_of_others() -> None:
    step = Step([(40, 1), (9, 4)])
    wide = torch.full((9, 2, 3, 16), NAN)
    wide[2:7, :, 0] = step.query
    output = torch.full((9, 2, 16), 5.0)
    expected = step.expected()
    step.query = wide[:, :, 0]
    attended = step.run(query_start_loc=step.query_start_loc + 2, out=output, num_splits=2)
    assert attended is output
    torch.testing.assert_close(output[2:7], expected, atol=1e-5, rtol=1e-5)
    assert torch.equal(output[[0, 1, 7, 8]], torch.full((4, 2, 16), 5.0))


def test_output_in_another_number_format() -> None:
    step = Step([(40, 1)], dtype=torch.float16)
    attended = step.run(out=None, out_dtype=torch.float32)
    assert attended.dtype == torch.float32
    torch.testing.assert_close(attended, step.expected(), atol=2e-3, rtol=2e-3)


@pytest.mark.parametrize("num_splits", [1, 3])
def test_neighbours_change_no_bit(num_splits: int, monkeypatch: pytest.MonkeyPatch) -> None:
    add_in_a_fixed_order(monkeypatch)
    together = Step(MIXED, dtype=torch.float16)
    attended = together.run(num_splits=num_splits)
    for index in (0, 3, 5):
        rows = slice(int(together.query_start_loc[index]), int(together.query_start_loc[index + 1]))
        alone = together.run(
            query_start_loc=together.query_start_loc[index : index + 2],
            seq_lens=together.seq_lens[index : index + 1],
            block_tables=together.block_tables[index : index + 1],
            num_splits=num_splits,
        )
        assert torch.equal(alone[rows], attended[rows])


def test_a_grid_for_longer_sequences_serves_shorter_ones() -> None:
    """As a captured graph does."""
    step = Step([(70, 1), (2, 1)])
    check(step, max_seq_len=16384, num_splits=8)
    check(step, max_seq_len=16384)


def test_number_of_splits() -> None:
    def splits(num_seqs: int, num_programs: int, max_seq_len: int) -> int:
        return choose_num_splits(num_seqs=num_seqs, num_programs=num_programs, max_seq_len=max_seq_len, block_n=64)

    assert splits(1, 64, 16384) == 8
    assert splits(1, 32, 16384) == 16
    assert splits(8, 64, 16384) == 1
    assert splits(1, 64, 100) == 1
    assert splits(1, 1, 1 << 20) == MAX_SPLITS


def test_what_is_refused() -> None:
    step = Step([(40, 1)])
    for num_splits in (0, MAX_SPLITS + 1):
        with pytest.raises(ValueError, match=f"num_splits={num_splits} is not allowed"):
            step.run(num_splits=num_splits)
    prompt = Step([(0, 20)])
    with pytest.raises(ValueError, match="and 1 for more than 8 queries"):
        prompt.run(num_splits=2)
    step.query = step.query.transpose(1, 2)
    with pytest.raises(ValueError, match="must adjoin"):
        step.run()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_tiles_are_what_dot_products_take(dtype: torch.dtype) -> None:
    for head_dim in (16, 64, 96, 128, 256):
        for max_query_len in (1, 8, 9, 4096):
            for group in (1, 4, 71):
                tile = choose_tile(max_query_len=max_query_len, group=group, head_dim=head_dim, dtype=dtype)
                assert min(tile.block_m, tile.block_n) >= 16
                assert tile.block_m.bit_count() == tile.block_n.bit_count() == 1
