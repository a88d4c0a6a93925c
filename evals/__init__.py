"""Evaluation: lm-eval's harness over the engine, our task files, records of runs, and the results page."""
