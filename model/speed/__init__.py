"""What `evals.bench_engine` measures our engine with: models of the real ones' shapes with random weights, made on the
device they run on, and the engine's own parts, timed.

    shapes.py         config.json of the three models, and of three as small as a test
    random_model.py   their weights
    zeros.py          biases that give a stated share of zeros
    exact.py          float32 logits of the same weights
    steps.py          when the engine's steps ended, and captured steps alone
    costs.py          bytes and operations that nobody can do without
"""
