"""Check every kernel against its reference on a GPU, then time it against what the memory gives.

    python -m kernels.bench                          all cases, into results/kernels/bench.json and bench.md
    python -m kernels.bench --module gemv            one module's, shown and not written
    python -m kernels.bench --check                  the comparison alone
    python -m kernels.bench --seconds 120            cases begun within two minutes; the others' cells stay empty

No kernel is timed whose results are not its reference's, within the bounds its case states. Times are CUDA events'
around one call, after the second-level cache has been filled with something else; GB/s are the bytes a case must move
at least, and stand beside those of a copy measured in the same run. Without a GPU the program says so and exits with 1.

    gate.py      whether results are the reference's
    clock.py     times on a GPU
    session.py   all cases
    results.py   what is written down, as JSON
    page.py      the page, from the JSON alone
"""
