"""The options of `python -m app classify`."""

from __future__ import annotations

import argparse
from pathlib import Path

from app.classify.answers import ANSWERS_FORMATS
from app.classify.lines import ENCODINGS
from app.classify.rows import DELIMITERS, FORMATS, SUFFIXES, TEXT_COLUMN, Format
from app.classify.scoring import SCORINGS

STDIO = "-"
CHAT, PLAIN = NAMED_TEMPLATES = ("chat", "plain")


def parse(arguments: list[str]) -> argparse.Namespace:
    """The options; a wrong one ends the process with status 2."""
    parser = argparse.ArgumentParser(
        prog="python -m app classify",
        description="Classify texts, by the likelihood of labels or by a trained head.",
        epilog="Exit status: 0 every row is answered; 3 some have a reason instead; 1 the run could not go on; "
        "2 a wrong option; 130 interrupted.",
        allow_abbrev=False,
    )
    way = parser.add_mutually_exclusive_group(required=True)
    way.add_argument("--labels", metavar="A,B,…", help="zero-shot: the labels")
    way.add_argument("--labels-file", metavar="FILE", type=Path, help="the same, `name` or `name: description` a line")
    way.add_argument("--head", metavar="NAME_OR_FOLDER", help="a trained head, by name or folder")
    model = parser.add_argument_group("the model")
    model.add_argument(
        "--checkpoint", metavar="FOLDER_OR_HUB_ID", help="default: the bundled demonstration model persimmon-demo"
    )
    model.add_argument("--revision", help="of a Hub checkpoint: branch, tag or commit")
    model.add_argument("--device", default="auto", help="auto (a GPU if there is one), cpu, cuda or cuda:N")
    model.add_argument("--dtype", default="auto", choices=("auto", "float32", "bfloat16", "float16"))
    asked = parser.add_argument_group("zero-shot")
    asked.add_argument(
        "--template",
        default=CHAT,
        metavar=f"{CHAT}|{PLAIN}|TEXT",
        help="with {text}, {label} and, where descriptions are to stand, {labels}; chat (the default): a question in "
        "the model's conversation format; plain: text to be continued",
    )
    asked.add_argument("--scoring", default="sum", choices=SCORINGS, help="of the labels' likelihoods (%(default)s)")
    asked.add_argument("--several", action="store_true", help="any number of labels may hold of a text")
    asked.add_argument("--examples", metavar="FILE", type=Path, help="few-shot examples, `text => label` a line")
    asked.add_argument(
        "--calibrate",
        metavar="TEXT",
        action="append",
        help="divide by the probabilities of a text that says nothing, such as N/A; may be given several times",
    )
    parser.add_argument("--threshold", type=float, default=0.5, help="least probability where several labels may hold")
    data = parser.add_argument_group("the texts")
    data.add_argument("--input", default=STDIO, metavar="FILE", help="- is standard input (the default)")
    data.add_argument("--output", default=STDIO, metavar="FILE", help="- is standard output (the default)")
    data.add_argument("--format", choices=FORMATS, help="of the input; default: by its ending, and text for -")
    data.add_argument("--output-format", choices=ANSWERS_FORMATS, help="default: csv for csv, else jsonl")
    data.add_argument("--column", default=TEXT_COLUMN, help="that holds the text (%(default)s)")
    data.add_argument("--encoding", default="utf-8", choices=ENCODINGS)
    data.add_argument("--delimiter", choices=tuple(DELIMITERS), help="of CSV; default: found in the first lines")
    data.add_argument(
        "--too-long", default="skip", choices=("skip", "cut"), help="what becomes of texts that do not fit"
    )
    data.add_argument("--quiet", action="store_true", help="no progress, which is only shown on a terminal")
    options = parser.parse_args(arguments)
    if options.format is None:
        options.format = _format_of(options.input, parser)
    if options.output_format is None:
        options.output_format = "csv" if options.format == "csv" else "jsonl"
    options.delimiter = DELIMITERS.get(options.delimiter or "")
    return options


def _format_of(name: str, parser: argparse.ArgumentParser) -> Format:
    if name == STDIO:
        return "text"
    found = SUFFIXES.get(Path(name).suffix.lower())
    if found is None:
        parser.error(f"--input {name} has none of the endings {', '.join(SUFFIXES)}: name its --format")
    return found
