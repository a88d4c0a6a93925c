"""One timed run of vLLM's CPU build, by another Python: the one of an environment that has it.

    PYTHON vllm_program.py FOUND.json            what that environment has
    PYTHON vllm_program.py RUN.json WORK.json    one run of the work: its results, time and memory

Of ours it imports `runs.timed` and what that needs, no more than the standard library and psutil (which vLLM needs
too), so that both sides are timed, and their memory is measured, by the same lines. `vllm_cpu.py` starts it.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

QUIET = {
    "VLLM_NO_USAGE_STATS": "1",  # it would report its use to its makers
    "VLLM_LOGGING_LEVEL": "ERROR",
}
IN_PROCESS = {"VLLM_ENABLE_V1_MULTIPROCESSING": "0"}  # else the model's memory is that of a process we do not see


def describe() -> dict[str, Any]:
    """Versions, and whether this vLLM computes on the CPU."""
    vllm, torch = importlib.import_module("vllm"), importlib.import_module("torch")
    platform = importlib.import_module("vllm.platforms").current_platform
    return {"vllm": vllm.__version__, "torch": torch.__version__, "is_cpu": bool(platform.is_cpu())}


def run(work: Mapping[str, Any]) -> dict[str, Any]:
    """Open the model, warm up, and time the requests.

    Args:
        work: `engine`, the options of `vllm.LLM`; `warm_up` and `requests`, each of `prompt_token_ids` and `options` of
            `vllm.SamplingParams`, with `first_scored`, the place in the prompt from which on its log-probabilities
            count, or null where an answer is generated.

    Returns:
        A `runs.Run` as a mapping, and torch's `threads`.
    """
    answers_of, timed = _ours()
    vllm, torch = importlib.import_module("vllm"), importlib.import_module("torch")
    llm = vllm.LLM(**work["engine"])

    def generate(requests: Sequence[Mapping[str, Any]], options: Mapping[str, Any]) -> list[Any]:
        outputs: list[Any] = llm.generate(
            [{"prompt_token_ids": request["prompt_token_ids"]} for request in requests],
            [vllm.SamplingParams(**request["options"] | options) for request in requests],
            use_tqdm=False,
        )
        return outputs

    def ask(requests: Sequence[Mapping[str, Any]]) -> Any:
        outputs = generate(requests, {})
        again = [place for place, asked in enumerate(requests) if _scored_in_cache(asked, outputs[place])]
        if again:
            computed = generate([requests[place] for place in again], {"skip_reading_prefix_cache": True})
            for place, output in zip(again, computed, strict=True):
                outputs[place] = output
        pairs = list(zip(requests, outputs, strict=True))
        return answers_of(
            token_ids=tuple(tuple(out.outputs[0].token_ids) for asked, out in pairs if asked["first_scored"] is None),
            scores=tuple(_score(asked, out) for asked, out in pairs if asked["first_scored"] is not None),
        )

    done = timed(lambda: ask(work["warm_up"]), lambda: ask(work["requests"]))
    return {**asdict(done), "threads": torch.get_num_threads()}


def _scored_in_cache(request: Mapping[str, Any], output: Any) -> bool:
    """Whether the row before a scored token came from the prefix cache: vLLM then leaves its log-probability unset.

    (vllm/v1/worker/gpu_model_runner.py, `_get_prompt_logprobs_dict`: it fills what it computes.)
    """
    first = request["first_scored"]
    return first is not None and (output.num_cached_tokens or 0) > first - 1


def _score(request: Mapping[str, Any], output: Any) -> tuple[float, bool]:
    """Natural-log probability of the prompt's tokens from `first_scored` on, and whether each is the most probable."""
    first = request["first_scored"]
    scored = list(zip(request["prompt_token_ids"][first:], output.prompt_logprobs[first:], strict=True))
    found = [entry[token] for token, entry in scored]
    return sum(one.logprob for one in found), all(one.rank == 1 for one in found)


def _ours() -> tuple[Any, Any]:
    """`runs.Answers` and `runs.timed`; vLLM and what it imports are to see none of our folders."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    runs = importlib.import_module("evals.bench.runs")
    del sys.path[0]
    return runs.Answers, runs.timed


def main(arguments: Sequence[str]) -> None:
    """Write what was found or what came of the work."""
    # This file's folder, whose modules have common names.
    sys.path[:] = [path for path in sys.path if Path(path).resolve() != Path(__file__).resolve().parent]
    os.environ.update(QUIET | IN_PROCESS)
    target, *source = map(Path, arguments)
    found = run(json.loads(source[0].read_text(encoding="utf-8"))) if source else describe()
    target.write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
