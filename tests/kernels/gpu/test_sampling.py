"""Drawing in Triton's interpreter: the same tokens as the definition, from the same sets."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from kernels.gpu import sampling as gpu
from kernels.gpu.sampling import draw
from kernels.sampling import DrawParams, draw_reference, surviving_reference

VOCABULARY = 1100  # two blocks of noise, and no multiple of a tile


@pytest.fixture(autouse=True)
def poisoned_outputs(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not written is seen."""
    empty = torch.empty
    monkeypatch.setattr(torch, "empty", lambda *arguments, **options: empty(*arguments, **options).fill_(-7))


def random_logits(num_rows: int, vocab_size: int = VOCABULARY) -> Tensor:
    """Parts of longer rows."""
    generator = torch.Generator().manual_seed(num_rows)
    return (3 * torch.randn(num_rows, vocab_size + 4, generator=generator))[:, :vocab_size]


def params(rows: list[tuple[float, int, float, float]]) -> DrawParams:
    """Of (temperature, top_k, top_p, min_p)."""
    temperature, top_k, top_p, min_p = zip(*rows, strict=True)
    count = len(rows)
    return DrawParams(
        torch.tensor(temperature),
        torch.tensor(top_k),
        torch.tensor(top_p),
        torch.tensor(min_p, dtype=torch.float64),  # rounded first
        torch.arange(count) * 12345678912345 + 1,
        torch.arange(count) * 3,
    )


ROWS = [
    (1.0, 0, 1.0, 0.0),
    (0.6, 50, 1.0, 0.0),
    (1.0, 0, 0.8, 0.0),
    (1.3, 40, 0.9, 0.02),
    (0.0, 0, 1.0, 0.0),
    (1.0, 1, 1.0, 0.0),
    (0.7, 0, 1e-9, 0.0),
    (5e-39, 9, 0.5, 0.0),
    (1.0, VOCABULARY + 5, 1.0, 0.3),
    (1.0, 3, 0.999999, 0.0),
    (2.0, 2, 0.3, 0.0),
]


def test_tokens_and_sets_are_the_definitions() -> None:
    logits, rows = random_logits(len(ROWS)), params(ROWS)
    kept = torch.zeros(len(ROWS), VOCABULARY, dtype=torch.bool)
    drawn = draw(logits, rows, kept=kept)
    is_drawn = rows.temperature > 0
    assert torch.equal(kept[is_drawn], surviving_reference(logits, rows)[is_drawn])
    assert drawn.tolist() == draw_reference(logits, rows).tolist()


def test_equal_logits_go_by_their_ids() -> None:
    """Whole numbers: whole groups of equal ones, of which a filter keeps some."""
    logits = random_logits(4).div(3).round()
    logits[:, ::7] *= 0.0  # zeros of both signs
    rows = params([(1.0, 100, 1.0, 0.0), (1.0, 0, 0.61803, 0.0), (1.0, 37, 0.701, 0.0), (0.0, 0, 1.0, 0.0)])
    kept = torch.zeros(4, VOCABULARY, dtype=torch.bool)
    drawn = draw(logits, rows, kept=kept)
    assert torch.equal(kept[:3], surviving_reference(logits, rows)[:3])
    assert kept.sum(dim=1).tolist()[0] == 100
    assert drawn[3] == logits[3].argmax()


def test_a_row_does_not_depend_on_its_neighbours() -> None:
    logits, rows = random_logits(4, 90), params(ROWS[:4])
    together = draw(logits, rows)
    alone = [draw(logits[i : i + 1], DrawParams(*(one[i : i + 1] for one in rows)))[0] for i in (1, 3)]
    assert alone == [together[1], together[3]]


def test_forbidden_tokens_are_never_drawn() -> None:
    logits = torch.full((6, 40), -torch.inf)
    logits[:, 7] = -3.0
    rows = params([(1.0, 0, 1.0, 0.0), (1.0, 5, 0.9, 0.0), (0.0, 0, 1.0, 0.0)] * 2)
    assert draw(logits, rows).tolist() == [7] * 6


def test_a_vocabulary_of_one_and_no_rows() -> None:
    assert draw(torch.zeros(1, 1), params([(1.0, 3, 0.5, 0.1)])).tolist() == [0]
    assert draw(torch.zeros(0, 9), params(ROWS)).shape == (0,)


def test_what_does_not_fit_is_refused() -> None:
    for logits in (torch.zeros(2, 8, dtype=torch.float16), torch.zeros(8, 2).T):
        with pytest.raises(ValueError, match="must be float32, side by side"):
            draw(logits, params(ROWS[:2]))


def test_digits_hold_the_order() -> None:
    for vocab_size in (1, 2, 32_000, 262_144):
        constants = gpu._constants(vocab_size)
        assert 1 << constants["ID_BITS"] >= vocab_size
        assert constants["NUM_DIGITS"] * constants["DIGIT_BITS"] >= 32 + constants["ID_BITS"]
        assert 32 + constants["ID_BITS"] < 64
