"""Train ``persimmon-demo`` from random weights on a CPU.

    python -m model.demo.train                     # the shipped checkpoint, under an hour on two cores
    python -m model.demo.train --minutes 3 --output trial/persimmon-demo

Same seed and machine: same corpus byte for byte and same number of steps. The weights may differ in their last bits
from one processor to another.
"""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

import argparse
import json
import math
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import torch
from tokenizers import Tokenizer
from torch.multiprocessing.spawn import spawn
from transformers import PersimmonForCausalLM

from model.demo.bundle import END_OF_DOCUMENT_ID, demo_config, write_bundle, write_tokenizer
from model.demo.packing import Batch, batches
from model.demo.plain_attention import PLAIN_ATTENTION

DEFAULT_OUTPUT: Final = Path("model/demo/persimmon-demo")
STEPS: Final = 2350
DECAY_STEPS: Final = 600
"""The learning rate falls linearly over these last steps and is constant before them."""
WARM_UP_STEPS: Final = 60
ROWS: Final = 16
ROW_LENGTH: Final = 320
WORKERS: Final = 2
"""Processes of one thread each, a share of the rows for each: they meet once a step instead of in every operation,
so that another program on the machine holds them up once a step and not hundreds of times."""
MATRIX_LEARNING_RATE: Final = 2.5e-3
"""Muon (Jordan 2024), for the matrices inside the layers, scaled to AdamW's update size."""
OTHER_LEARNING_RATE: Final = 3e-3
"""AdamW, for embeddings, head, norms and biases."""
QK_NORM_LEARNING_RATE: Final = 1e-2
QK_NORM_GAIN: Final = 1.5
"""The norms on q and k bound how sharply a head can attend, and looking at the previous token needs a sharp one: with
gains starting at 1 and learning slowly, nothing was copied from the context in the first 450 steps."""
WEIGHT_DECAY: Final = 0.05
LAST_FRACTION: Final = 0.02
"""The learning rate ends at this fraction of its peak."""
GRADIENT_NORM: Final = 1.0
REPORT_EVERY: Final = 25
SAVE_EVERY: Final = 100


@dataclass(frozen=True)
class TrainingRun:
    """What a run did; written beside the checkpoint as ``training.json``. Times in seconds, loss in nats."""

    seed: int
    steps: int
    tokens: int
    seconds: float
    tokens_per_second: float
    final_loss: float
    bundle_bytes: int


def learning_rate_factor(step: int, steps: int) -> float:
    """Linear warm-up, a plateau, a linear fall to ``LAST_FRACTION`` over the last steps (dimensionless)."""
    warm_up = min(WARM_UP_STEPS, max(1, steps // 10))
    decay = min(DECAY_STEPS, steps // 2)
    if step < warm_up:
        return (step + 1) / warm_up
    left = min(1.0, (steps - step) / decay)
    return LAST_FRACTION + (1 - LAST_FRACTION) * left


def weighted_loss(model: PersimmonForCausalLM, batch: Batch, total_weight: torch.Tensor) -> torch.Tensor:
    """Next-token loss in nats, each token counting with its weight, over the weight of the whole batch."""
    output = model(
        input_ids=batch.input_ids,
        position_ids=batch.positions,
        attention_mask=batch.attention_bias(model.dtype),
        use_cache=False,
    )
    logits = output.logits[:, :-1].float()  # [rows, row_length - 1, vocab_size]
    targets, weights = batch.input_ids[:, 1:], batch.weights[:, 1:]
    losses = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none")
    return (losses * weights.flatten()).sum() / total_weight


class MasterWeights:
    """Single-precision copies of a bfloat16 model's parameters, with the optimizers that move them.

    Muon moves the layers' matrices, AdamW everything else.
    """

    def __init__(self, model: PersimmonForCausalLM) -> None:
        self._pairs = [(parameter, parameter.detach().float().requires_grad_()) for parameter in model.parameters()]
        names = [name for name, _ in model.named_parameters()]
        matrices: list[torch.Tensor] = []
        others: list[torch.Tensor] = []
        qk_norms: list[torch.Tensor] = []
        for name, (_, master) in zip(names, self._pairs, strict=True):
            if ".q_layernorm." in name or ".k_layernorm." in name:
                qk_norms.append(master)
            else:
                (matrices if ".layers." in name and master.ndim == 2 else others).append(master)
        self._optimizers: list[torch.optim.Optimizer] = [
            torch.optim.Muon(
                matrices, lr=MATRIX_LEARNING_RATE, weight_decay=WEIGHT_DECAY, adjust_lr_fn="match_rms_adamw"
            ),
            torch.optim.AdamW(others, lr=OTHER_LEARNING_RATE, betas=(0.9, 0.95), weight_decay=0.0),
            torch.optim.AdamW(qk_norms, lr=QK_NORM_LEARNING_RATE, betas=(0.9, 0.95), weight_decay=0.0),
        ]
        self._peaks = [optimizer.param_groups[0]["lr"] for optimizer in self._optimizers]

    def gradients(self) -> torch.Tensor:
        """Take the gradients of the model's parameters as one vector, and drop them.  # [num_parameters] float32"""
        flat = torch.cat(
            [parameter.grad.float().flatten() for parameter, _ in self._pairs if parameter.grad is not None]
        )
        for parameter, _ in self._pairs:
            parameter.grad = None
        return flat

    def step(self, gradients: torch.Tensor, factor: float) -> None:
        """Apply ``gradients`` (as ``gradients()`` returns them) at ``factor`` times the peak learning rates."""
        at = 0
        for _, master in self._pairs:
            master.grad = gradients[at : at + master.numel()].view_as(master)
            at += master.numel()
        torch.nn.utils.clip_grad_norm_([master for _, master in self._pairs], GRADIENT_NORM)
        for optimizer, peak in zip(self._optimizers, self._peaks, strict=True):
            optimizer.param_groups[0]["lr"] = peak * factor
            optimizer.step()
        self._publish()

    def _publish(self) -> None:
        with torch.no_grad():
            for parameter, master in self._pairs:
                parameter.copy_(master)

    def state(self) -> dict[str, Any]:
        """Everything needed to go on later."""
        return {
            "masters": [master.detach() for _, master in self._pairs],
            "optimizers": [optimizer.state_dict() for optimizer in self._optimizers],
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from ``state``."""
        with torch.no_grad():
            for (_, master), saved in zip(self._pairs, state["masters"], strict=True):
                master.copy_(saved)
        for optimizer, saved in zip(self._optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self._publish()


@dataclass(frozen=True)
class Plan:
    """What to train and where to write it."""

    seed: int
    steps: int
    minutes: float | None
    """Measure a few steps and choose the number that fits; for trials, not repeatable."""
    output: Path
    progress: Path | None
    """File with the state of an unfinished run: read if it is there, written every ``SAVE_EVERY`` steps."""
    tokenizer_folder: Path


class Meeting:
    """Where the workers add up their gradients: shared memory, two slots in turn, one barrier a step."""

    def __init__(self, workers: int, size: int) -> None:
        context = torch.multiprocessing.get_context("spawn")
        self.slots = torch.zeros(2, workers, size)
        self.steps = torch.zeros(1, dtype=torch.int64)
        for tensor in (self.slots, self.steps):
            tensor.share_memory_()  # type: ignore[no-untyped-call]
        self.barrier = context.Barrier(workers)

    def add_up(self, worker: int, step: int, mine: torch.Tensor) -> torch.Tensor:
        """Hand in one worker's vector and get the sum of all, added in the same order everywhere."""
        slot: torch.Tensor = self.slots[step % 2]
        slot[worker].copy_(mine)
        self.barrier.wait()
        return slot.sum(dim=0)


def run_worker(worker: int, plan: Plan, meeting: Meeting) -> None:
    """Train on every ``WORKERS``-th row; the first worker reports and writes."""
    torch.set_num_threads(1)
    torch.manual_seed(plan.seed)
    tokenizer = Tokenizer.from_file(str(plan.tokenizer_folder / "tokenizer.json"))
    model = PersimmonForCausalLM(demo_config())
    model.set_attn_implementation(PLAIN_ATTENTION)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(("q_layernorm.weight", "k_layernorm.weight")):
                parameter.fill_(QK_NORM_GAIN)
    masters = MasterWeights(model)
    model.to(torch.bfloat16).train()
    steps, step, tokens, before, recent = plan.steps, 0, 0, 0.0, float("nan")
    stream = batches(tokenizer, seed=plan.seed, rows=ROWS, row_length=ROW_LENGTH, pad_id=END_OF_DOCUMENT_ID)
    if plan.progress is not None and plan.progress.exists():
        saved = torch.load(plan.progress, weights_only=True)
        masters.restore(saved)
        step, tokens, before, recent = saved["step"], saved["tokens"], saved["seconds"], saved["loss"]
        for _ in range(step):
            next(stream)
    first_step, started, first_tokens = step, time.perf_counter(), tokens
    while step < steps:
        batch = next(stream)
        loss = weighted_loss(model, batch.every(WORKERS, worker), batch.weights.sum())
        loss.backward()  # type: ignore[no-untyped-call]
        summed = meeting.add_up(worker, step, torch.cat([masters.gradients(), loss.detach().view(1)]))
        masters.step(summed[:-1], learning_rate_factor(step, steps))
        value = summed[-1].item()
        recent = value if math.isnan(recent) else 0.97 * recent + 0.03 * value
        tokens += int((batch.document_ids >= 0).sum())
        step += 1
        passed = time.perf_counter() - started
        if plan.minutes is not None and step == 20:
            if worker == 0:
                meeting.steps[0] = max(40, int(plan.minutes * 60 / (passed / step)))
            meeting.barrier.wait()
            steps = int(meeting.steps[0])
        if worker == 0 and (step % REPORT_EVERY == 0 or step == steps):
            left = passed / (step - first_step) * (steps - step)
            rate = (tokens - first_tokens) / passed
            print(
                f"step {step}/{steps}  loss {recent:.4f}  {rate:,.0f} tokens/s  {left / 60:.1f} min left",
                flush=True,
            )
        if worker == 0 and plan.progress is not None and step % SAVE_EVERY == 0:
            state = {
                "step": step,
                "tokens": tokens,
                "seconds": before + passed,
                "loss": recent,
                **masters.state(),
            }
            torch.save(state, plan.progress.with_suffix(".part"))
            plan.progress.with_suffix(".part").rename(plan.progress)
    if worker == 0:
        seconds = before + time.perf_counter() - started
        size = write_bundle(plan.output, tokenizer_folder=plan.tokenizer_folder, model=model)
        run = TrainingRun(
            plan.seed, steps, tokens, round(seconds, 1), round(tokens / seconds, 1), round(recent, 4), size
        )
        record = json.dumps(asdict(run), indent=2)
        (plan.output.parent / f"{plan.output.name}.training.json").write_text(record + "\n")
        print(record, flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line, train, report."""
    parser = argparse.ArgumentParser(description="Train persimmon-demo from random weights on a CPU.")
    parser.add_argument("--output", type=Path, default=DEFAULT_OUTPUT, help="checkpoint folder to write")
    parser.add_argument("--seed", type=int, default=0, help="seed of corpus, vocabulary and weights")
    parser.add_argument("--steps", type=int, default=STEPS, help="optimizer steps")
    parser.add_argument("--minutes", type=float, help="short trial: choose the steps that fit into this time")
    parser.add_argument("--progress", type=Path, help="file to keep the state in, so that a stopped run can go on")
    chosen = parser.parse_args(arguments)
    size = sum(parameter.numel() for parameter in PersimmonForCausalLM(demo_config()).parameters())
    print(f"{size:,} parameters, seed {chosen.seed}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        write_tokenizer(Path(folder), chosen.seed)
        plan = Plan(chosen.seed, chosen.steps, chosen.minutes, chosen.output, chosen.progress, Path(folder))
        spawn(  # type: ignore[no-untyped-call]
            run_worker, args=(plan, Meeting(WORKERS, size + 1)), nprocs=WORKERS
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
