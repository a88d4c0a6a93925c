"""One process: some sections of one group, each figure written down as soon as it is there.

`python -m evals.bench_engine.child` is started by `parent.py` with one JSON object: the size, the device, the sections
and the file to write to, a line for each event. What was written stays if the process dies.
"""

from __future__ import annotations

import importlib
import json
import logging
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from evals import environment
from evals.bench_engine.bench import Absent, Bench, GateFailed
from evals.bench_engine.results import Figure, Section, section_from_json
from evals.bench_engine.sections import plan_of
from evals.bench_engine.sizes import SIZES

logger = logging.getLogger(__name__)


def main(text: str) -> int:
    """Run the sections of one request; 3 if the device cannot go on, so that the rest need another process."""
    request = json.loads(text)
    environment.prepare(offline=True)
    logging.basicConfig(format="%(asctime)s %(message)s", datefmt="%H:%M:%S", stream=sys.stderr)
    import torch

    from model.open_engine import DTYPES, choose_device
    from model.speed.steps import new_backend

    device = choose_device(request["device"])
    if device.type == "cuda":
        torch.cuda.set_device(device)
    earlier = {raw["name"]: section_from_json(raw) for raw in request["earlier"]}
    events = Path(request["events"])
    kept: dict[str, Any] = {}

    def write(event: dict[str, Any]) -> None:
        with events.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(event, allow_nan=False) + "\n")

    for name in request["sections"]:
        figures: list[Figure] = []

        def record(figure: Figure, into: list[Figure] = figures) -> None:
            into.append(figure)
            write({"figure": asdict(figure)})

        plan = plan_of(name)
        bench = Bench(
            section=name,
            model="persimmon-8b" if plan.group in ("ours", "peers") else plan.group,
            sizes=SIZES[request["size"]],
            device=device,
            dtype=DTYPES[request["dtype"]],
            kernels=request["kernels"],
            backend=new_backend(device),
            earlier=earlier,
            record=record,
            kept=kept,
        )
        write({"begin": name})
        began = time.monotonic()
        status, reason = run_section(plan.function, bench)
        seconds = round(time.monotonic() - began, 1)
        write({"end": name, "status": status, "reason": reason, "seconds": seconds})
        if status == "measured":
            earlier[name] = Section(name=name, status="measured", figures=tuple(figures))
        elif device.type == "cuda" and not _device_goes_on(device):
            return 3
    for closing in reversed(list(kept.values())):
        if hasattr(closing, "close"):
            closing.close()
    return 0


def run_section(function: str, bench: Bench) -> tuple[str, str | None]:
    """Status and reason."""
    missing = [name for name in plan_of(bench.section).needs if name not in bench.earlier]
    if missing:
        return "refused", f"{', '.join(missing)} was not measured, and nothing is timed without it"
    module, _, name = function.partition(":")
    try:
        getattr(importlib.import_module(f"evals.bench_engine.{module}"), name)(bench)
    except Absent as error:
        return "absent", str(error)
    except GateFailed as error:
        return "refused", str(error)
    except Exception as error:  # whatever a library or a device has to say stays in its section
        logger.exception("%s failed", bench.section)
        lines = str(error).strip().splitlines()
        return "failed", f"{type(error).__name__}: {lines[0] if lines else 'no message'}"
    return "measured", None


def _device_goes_on(device: Any) -> bool:
    """Whether the GPU still computes: an illegal access of memory ends every later call of the process."""
    import torch

    try:
        torch.zeros(1, device=device).add_(1).item()
        torch.cuda.empty_cache()
    except Exception:
        logger.exception("the device cannot go on")
        return False
    return True


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
