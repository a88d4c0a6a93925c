"""Which parameters move how, and that Muon and AdamW together are one optimizer to the Trainer."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from tiny_checkpoints import tiny_settings
from torch import Tensor, nn
from torch.optim import AdamW, Muon
from torch.optim.lr_scheduler import LambdaLR
from transformers import Adafactor, get_wsd_schedule

from model.finetune.optimizers import ADAM_BETAS, MuonWithAdamW, make_optimizer
from model.finetune.prepare_model import add_lora, load_for_training

pytestmark = pytest.mark.filterwarnings("ignore:.*gradient_checkpointing.*is deprecated:FutureWarning")

CPU = torch.device("cpu")
IN_LAYERS = {
    "persimmon": ("dense.weight", "dense_4h_to_h.weight", "dense_h_to_4h.weight", "query_key_value.weight"),
    "mpt": ("Wqkv.weight", "down_proj.weight", "out_proj.weight", "up_proj.weight"),
    "llama": tuple(f"{name}_proj.weight" for name in ("down", "gate", "k", "o", "q", "up", "v")),
}


def names_of(model: nn.Module, parameters: list[Tensor]) -> set[str]:
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return {names[id(parameter)] for parameter in parameters}


def groups_of(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[tuple[float, float], set[str]]:
    """Names by learning rate and weight decay."""
    return {(group["lr"], group["weight_decay"]): names_of(model, group["params"]) for group in optimizer.param_groups}


@pytest.fixture
def model(family: str, checkpoints: dict[str, Path], tmp_path: Path) -> nn.Module:
    return load_for_training(checkpoints[family], tiny_settings(checkpoints[family], tmp_path), CPU)


def test_muon_moves_the_layers_matrices_only(
    family: str, model: nn.Module, checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    settings = tiny_settings(
        checkpoints[family],
        tmp_path,
        optimizer="muon",
        learning_rate=1.0,
        matrix_learning_rate=2.0,
        weight_decay=0.5,
        learning_rate_of={"norm": 3.0, "down_proj.weight": 4.0, "4h_to_h.weight": 4.0},
    )
    optimizer = make_optimizer(model, settings)
    muon, adamw = optimizer._parts
    assert isinstance(muon, Muon)
    assert isinstance(adamw, AdamW)
    by_muon = names_of(model, [weight for group in muon.param_groups for weight in group["params"]])
    layers = 2
    assert sorted(by_muon) == sorted(
        name for name, _ in model.named_parameters() if name.endswith(IN_LAYERS[family]) and "norm" not in name
    )
    assert len(by_muon) == layers * len(IN_LAYERS[family])
    rest = {name for name, _ in model.named_parameters()} - by_muon
    norms = {name for name in rest if "norm" in name}
    down = {name for name in by_muon if "down_proj" in name or "4h_to_h" in name}
    assert len(down) == layers
    assert groups_of(model, optimizer) == {
        (2.0, 0.5): by_muon - down,
        (4.0, 0.5): down,
        (3.0, 0.0): norms,
        (1.0, 0.0): rest - norms,
    }
    assert {name.rpartition(".")[0].rpartition(".")[2] for name in rest - norms} >= (
        {"wte"} if family == "mpt" else {"embed_tokens", "lm_head"}
    )


@pytest.mark.parametrize(("name", "kind"), [("adamw", AdamW), ("adafactor", Adafactor)])
def test_matrices_decay_and_names_choose_rates(
    name: str, kind: type, family: str, model: nn.Module, checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    settings = tiny_settings(
        checkpoints[family],
        tmp_path,
        optimizer=name,
        learning_rate=1.0,
        weight_decay=0.5,
        learning_rate_of={"norm": 3.0, "e": 4.0},
    )
    optimizer = make_optimizer(model, settings)
    assert type(optimizer) is kind
    weights = dict(model.named_parameters())
    expected: dict[tuple[float, float], set[str]] = {}
    for key, weight in weights.items():
        rate = 3.0 if "norm" in key else 4.0 if "e" in key else 1.0
        expected.setdefault((rate, 0.5 if weight.ndim == 2 else 0.0), set()).add(key)
    assert groups_of(model, optimizer) == expected


@pytest.mark.parametrize("name", ["adamw", "adafactor", "muon"])
def test_lora_trains_its_matrices_only(name: str, family: str, checkpoints: dict[str, Path], tmp_path: Path) -> None:
    settings = tiny_settings(checkpoints[family], tmp_path, method="lora", optimizer=name)
    model = add_lora(load_for_training(checkpoints[family], settings, CPU), settings)
    optimizer = make_optimizer(model, settings)
    moved = names_of(model, [weight for group in optimizer.param_groups for weight in group["params"]])
    assert moved == {key for key, _ in model.named_parameters() if ".lora_A." in key or ".lora_B." in key}
    assert {key.split(".lora_")[0].rpartition(".")[2] + ".weight" for key in moved} == set(IN_LAYERS[family])
    assert {weight.dtype for weight in model.parameters() if weight.requires_grad} == {torch.float32}


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed = nn.Embedding(5, 4)
        self.inner = nn.Linear(4, 4)
        self.lm_head = nn.Linear(4, 5, bias=False)

    def loss(self, step: int) -> Tensor:
        hidden = self.inner(self.embed(torch.tensor([step % 5, 1, 2])))
        return self.lm_head(torch.tanh(hidden)).square().mean()


def both(model: Small) -> MuonWithAdamW:
    return MuonWithAdamW(
        [{"params": [model.inner.weight], "lr": 0.02, "weight_decay": 0.1}],
        others=[
            {"params": [model.embed.weight, model.lm_head.weight], "lr": 0.01, "weight_decay": 0.0},
            {"params": [model.inner.bias], "lr": 0.03, "weight_decay": 0.0},
        ],
    )


def go_on(model: Small, optimizers: list[torch.optim.Optimizer], schedules: list[LambdaLR], steps: range) -> None:
    for step in steps:
        for optimizer in optimizers:
            optimizer.zero_grad()
        model.loss(step).backward()
        for optimizer in optimizers:
            optimizer.step()
        for schedule in schedules:
            schedule.step()


def schedule_of(optimizer: torch.optim.Optimizer) -> LambdaLR:
    schedule: LambdaLR = get_wsd_schedule(optimizer, num_warmup_steps=3, num_decay_steps=5, num_training_steps=10)
    return schedule


def test_together_they_do_what_both_do_apart() -> None:
    """With a schedule, whose rates must reach both."""
    together, apart = Small(), Small()
    optimizer = both(together)
    go_on(together, [optimizer], [schedule_of(optimizer)], range(10))
    muon = Muon([apart.inner.weight], lr=0.02, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    adamw = AdamW(
        [
            {"params": [apart.embed.weight, apart.lm_head.weight], "lr": 0.01},
            {"params": [apart.inner.bias], "lr": 0.03},
        ],
        betas=ADAM_BETAS,
        weight_decay=0.0,
    )
    go_on(apart, [muon, adamw], [schedule_of(muon), schedule_of(adamw)], range(10))
    for name, weight in apart.state_dict().items():
        assert torch.equal(together.state_dict()[name], weight), name
    assert not torch.equal(together.inner.weight, Small().inner.weight)


def test_state_goes_through_a_file(tmp_path: Path) -> None:
    whole, first, second = Small(), Small(), Small()
    optimizer = both(whole)
    go_on(whole, [optimizer], [schedule_of(optimizer)], range(10))

    optimizer = both(first)
    schedule = schedule_of(optimizer)
    go_on(first, [optimizer], [schedule], range(4))
    torch.save([optimizer.state_dict(), schedule.state_dict(), first.state_dict()], tmp_path / "state.pt")

    optimizer = both(second)
    schedule = schedule_of(optimizer)
    states = torch.load(tmp_path / "state.pt", weights_only=True)
    for target, state in zip((optimizer, schedule, second), states, strict=True):
        target.load_state_dict(state)
    assert [group["lr"] for group in optimizer.param_groups] == [
        group["lr"] for part in optimizer._parts for group in part.param_groups
    ]
    go_on(second, [optimizer], [schedule], range(4, 10))
    for name, weight in whole.state_dict().items():
        assert torch.equal(second.state_dict()[name], weight), name


def test_muon_alone_and_no_closure() -> None:
    model = Small()
    optimizer = MuonWithAdamW([{"params": [model.inner.weight], "lr": 0.1, "weight_decay": 0.0}], others=[])
    before = copy.deepcopy(model.state_dict())
    go_on(model, [optimizer], [], range(1))
    changed = {name for name, weight in model.state_dict().items() if not torch.equal(weight, before[name])}
    assert changed == {"inner.weight"}
    with pytest.raises(ValueError, match="closure is not supported"):
        optimizer.step(lambda: 0.0)
