"""Everything about one GPU in one command: `python -m evals.gpu_report`, or `make gpu-report`.

Correctness (the kernels' tests as compiled code, the engine's gate), then the kernels' benchmark, then the engine's,
each in a process of its own with a time of its own, all saved as it goes; results/bench/gpu.md says what came of it.
The same command again goes on with what is missing. No `make setup` is needed: a Python with torch, triton,
transformers, tokenizers, safetensors, sentencepiece, huggingface_hub, numpy and psutil will do, and pytest with
hypothesis for the tests (pytest-xdist makes them faster). Nothing is fetched.

    parts.py      what is run, and how its output is read
    run.py        the processes and their time
    results.py    gpu.json
    page.py       gpu.md, from gpu.json and what the benchmarks wrote
"""
