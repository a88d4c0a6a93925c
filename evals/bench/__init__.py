"""Our engine against Hugging Face's `generate` and lm-eval's own `hf` backend, side by side in one run on this CPU.

    python -m evals.bench                         everything, into results/bench/cpu.json and cpu.md
    python -m evals.bench --only arc decode-1     these measurements; the others stay as they are on the page
    python -m evals.bench --quick                 tiny sizes, into build/bench: shows that everything runs
    python -m evals.bench --vllm-python PYTHON    vLLM's CPU build beside them, where that Python has it

Every run of either side is a process of its own, so neither sees the other's memory nor what an earlier run left in a
cache. A measurement first compares the results of both sides; where they differ it is refused, and no figure is shown.

    results.py      what is written down, as JSON
    workloads.py    what both sides are asked, with a seed
    checkpoints.py  random Persimmons
    ours.py, hugging_face.py, lm_eval_hf.py       one timed run of a side
    gate.py         whether results are the same
    tuning.py       the peer's fastest setting
    vllm_cpu.py     one timed run of vLLM, by another Python: vllm_program.py, with vllm_requests.py
    beside.py       vLLM's side of a measurement, which refuses nothing
    measure.py      gate, rounds in turn, medians
    gap.py          a running stream while a long prompt arrives
    roofs.py, limits.py                           what this machine could do at most
    suite.py        the measurements and their bars
    page.py, page_vllm.py, cells.py               the page, from the JSON alone

Not covered: GPUs, torch.compile on our side and Hugging Face's.
"""
