"""Measure the engine on a GPU: `python -m evals.bench_engine`, one command on one machine.

    python -m evals.bench_engine                            all sections, into results/bench/engine.json and engine.md
    python -m evals.bench_engine --minutes 6                what fits; the same command again goes on with the rest
    python -m evals.bench_engine --device cpu --size tiny   shows that it runs, into build/bench_engine

Models have the published shapes and random weights made on the device. Sections stand in the order of their importance
(`sections.py`); each model has processes of its own, and what one of them loses, a later one goes on without. It needs
torch, transformers, tokenizers, safetensors, sentencepiece, numpy and psutil, and Triton on a GPU.

    sizes.py      how large everything is
    sections.py   what is measured, in which order, and how long it may take
    ours.py       our engine: the gate, then the times
    peers.py      Hugging Face on the same weights
    bench.py      what a section is given
    child.py      one process, some sections
    parent.py     starts the processes, keeps the time, saves as they go
    results.py    what is written down
    bars.py       what must and should be reached
    page.py       engine.md, from engine.json alone
    plots.py      roofline and latency against batch, as SVG
"""
