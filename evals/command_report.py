"""Render results/ from the records alone."""

from __future__ import annotations

import argparse

from evals import environment
from evals.command_run import add_output


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `python -m evals report`."""
    add_output(parser)


def run(options: argparse.Namespace) -> int:
    """`python -m evals report`."""
    environment.prepare(offline=True)
    from evals.report import write_report

    for path in write_report(options.output):
        print(path)
    return 0
