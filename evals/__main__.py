"""Evaluate models, compare two of them, and render the results.

python -m evals run                                  the bundled checkpoints on the bundled items, offline
python -m evals run --models a,b --suite adept       several models, one after the other, on the Hub's items
python -m evals run --data ../shared/data            ... on real items in JSONL files
python -m evals run --models persimmon-demo,hf:persimmon-demo     the same through lm-eval's own Hugging Face back-end
python -m evals run --models http://127.0.0.1:8000/v1             ... or any OpenAI-compatible endpoint
python -m evals compare RUN RUN                      two runs item by item
python -m evals rescore RUN                          run the programs of a run again
python -m evals report                               results/ from the records
python -m evals sparsity                             share of exact zeros after squared ReLU
python -m evals rope-precision                       perplexity by position, with either kind of rotary positions
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from evals import command_compare, command_report, command_rescore, command_run, rope_precision, sparsity
from evals.errors import EvaluationError

ROOT = Path(__file__).resolve().parent.parent
COMMANDS = {
    "run": (command_run, "evaluate models and write results/"),
    "compare": (command_compare, "compare two runs item by item"),
    "rescore": (command_rescore, "run the programs of a run again"),
    "report": (command_report, "render results/ from the records"),
    "sparsity": (sparsity, "share of exact zeros after the activation, per layer"),
    "rope-precision": (rope_precision, "perplexity by position with float32 and bfloat16 rotary positions"),
}


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line's values."""
    parser = argparse.ArgumentParser(
        prog="python -m evals", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name, (module, text) in COMMANDS.items():
        command = commands.add_parser(name, help=text, description=module.__doc__)
        command.formatter_class = argparse.RawDescriptionHelpFormatter
        module.add_arguments(command)
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Run one command; 0 if all went well, else not, after one sentence on stderr."""
    options = parse(arguments)
    try:
        status: int = COMMANDS[options.command][0].run(options)
    except EvaluationError as error:
        print(f"evals: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("evals: stopped; what was answered is kept, and the same command goes on from there", file=sys.stderr)
        return 130  # as a shell reports SIGINT
    return status


if __name__ == "__main__":
    sys.exit(main())
