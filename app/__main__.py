"""Start the web app: `python -m app [--checkpoint FOLDER_OR_HUB_ID ...]`, or classify texts without it:
`python -m app classify`; see `--help` of both."""

from __future__ import annotations

import argparse
import contextlib
import ipaddress
import os
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from app.accounts import Accounts, AccountsError
from app.store import Database, StoreError, default_data_folder

# Read when gradio and huggingface_hub are imported: nothing this program does is reported to anyone.
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fastapi import FastAPI

    from model.interface import Engine

API_KEY_VARIABLE = "PERSIMMON_API_KEY"
DATABASE_NAME = "app.sqlite3"
HEADS_NAME = "heads"


def main(arguments: list[str] | None = None) -> int:
    """Serve until told to end (Ctrl+C or SIGTERM); the exit status: 0, or 1 where something does not work.
    With `classify` as the first argument, what `app.classify.command` says."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments[:1] == ["classify"]:
        from app.classify.command import main as classify

        return classify(arguments[1:])
    options = _parse(arguments)
    if not options.allow_remote and not _is_loopback(options.host):
        unguarded = [
            *(["--auth FILE for the pages"] if options.auth is None and not options.no_page else []),
            *(["--api-key-file FILE for the API"] if options.api_key is None else []),
        ]
        if unguarded:
            return _fail(
                f"--host {options.host} lets other machines use this model without a password: add "
                f"{' and '.join(unguarded)}, add --allow-remote if you want that, or use 127.0.0.1"
            )
    try:
        accounts = None if options.auth is None else Accounts(options.auth)
    except AccountsError as error:
        return _fail(str(error))
    try:
        listener = _listen(options.host, options.port)
    except OSError as error:
        return _fail(
            f"port {options.port} of {options.host} cannot be used ({error.strerror}): "
            "end the program that uses it, or choose another with --port"
        )
    with listener:
        try:
            if options.no_page:
                return _serve(options, listener)
            with contextlib.closing(Database(options.data_folder / DATABASE_NAME)) as database:
                return _serve(options, listener, database, accounts)
        except StoreError as error:
            return _fail(str(error))
        except KeyboardInterrupt:  # before the server takes it
            return 130


def _serve(
    options: argparse.Namespace,
    listener: socket.socket,
    database: Database | None = None,
    accounts: Accounts | None = None,
) -> int:
    from app.api.options import ApiOptions
    from app.api.request_log import start_logging
    from app.serving import AppServer

    start_logging(options.log_format)
    api_options = ApiOptions(
        api_key=options.api_key,
        max_queue=options.max_queue,
        request_timeout_s=options.request_timeout,
        max_body_bytes=options.max_body_bytes,
    )
    # torch and gradio take seconds to import: the server answers meanwhile.

    def open_all() -> Sequence[Engine]:
        import app.server  # noqa: F401
        from model.open_engine import DEMO_CHECKPOINTS, open_engines

        checkpoints = options.checkpoint or [str(checkpoint) for checkpoint in DEMO_CHECKPOINTS]
        for checkpoint in checkpoints:
            print(f"Loading {checkpoint} …", flush=True)
        return open_engines(
            checkpoints,
            revision=options.revision,
            device=options.device,
            dtype=options.dtype,
            rope_position_dtype=options.rope_position_dtype,
            context_length=options.context_length,
            graphs=not options.no_graphs,
            gpu_memory_utilization=options.gpu_memory_utilization,
            attention_backend=options.attention_backend,
            kernels=options.kernels,
            deterministic=options.deterministic,
        )

    def create(engines: Sequence[Engine]) -> FastAPI:
        from app.server import create_app

        return create_app(
            engines,
            api_options,
            with_pages=not options.no_page,
            database=database,
            accounts=accounts,
            heads=options.data_folder / HEADS_NAME,
        )

    return AppServer(
        listener,
        open_engines=open_all,
        create_app=create,
        say_ready=lambda engines: _say_ready(engines, listener),
        say_failed=_fail,
        drain_s=options.drain_timeout,
        step_s=options.step_timeout,
    ).serve_until_told_to_end()


def _say_ready(engines: Sequence[Engine], listener: socket.socket) -> None:
    for engine in engines:
        info = engine.info
        if info.notice is not None:
            print(f"Note on {info.model_name}: {info.notice}")
        cached = (info.num_blocks - 1) * info.block_size
        print(
            f"{info.model_name} on {info.device}, {info.dtype}; attention: {info.attention_choice}; "
            f"kernels: {info.kernels_choice}; KV cache: {cached:,} tokens, shared by at most {info.max_num_requests} "
            "answers at once"
        )
    host, port = listener.getsockname()[:2]
    print(f"Ready: http://{f'[{host}]' if ':' in host else host}:{port}", flush=True)


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m app",
        description="Chat with models in the browser, and serve them. `python -m app classify --help`: classify texts.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--checkpoint",
        action="append",
        metavar="FOLDER_OR_HUB_ID",
        help="a model; give it several times for several, the first is the default one; without it: the three bundled "
        "demonstration models",
    )
    parser.add_argument("--device", default="auto", help="auto (a GPU if there is one), cpu, cuda or cuda:N")
    parser.add_argument(
        "--dtype",
        default="auto",
        choices=("auto", "float32", "bfloat16", "float16"),
        help="number format; auto is bfloat16 on a GPU and float32 on a CPU",
    )
    parser.add_argument("--revision", help="of the Hub checkpoint: branch, tag or commit")
    parser.add_argument(
        "--rope-position-dtype",
        default="float32",
        choices=("float32", "bfloat16"),
        help="rotary positions as Hugging Face computes them (float32) or as Adept's server did (bfloat16)",
    )
    parser.add_argument("--context-length", type=int, help="most tokens of prompt and answer, if not each model's own")
    parser.add_argument("--no-graphs", action="store_true", help="on a GPU: compute every step without CUDA graphs")
    parser.add_argument(
        "--attention-backend",
        default="auto",
        metavar="NAME[/NAME]",
        help="flash-attn, torch-varlen, triton or sdpa, for prompts and, after a slash, for answers; auto is the "
        "fastest there is, and the reasons are shown at the start",
    )
    parser.add_argument(
        "--kernels",
        default="auto",
        choices=("auto", "triton", "numba", "reference"),
        help="what computes between the matrices: our kernels, as auto does (Triton's on a GPU, Numba's on a CPU), or "
        "torch",
    )
    parser.add_argument(
        "--deterministic",
        action="store_true",
        help="on a GPU, the same bits for a request whatever runs beside it: fixed tiles and sums, dense and slower, "
        "prompts most of all",
    )
    parser.add_argument(
        "--gpu-memory-utilization",
        type=float,
        default=0.9,
        metavar="SHARE",
        help="of a GPU's memory, for weights, workspace and KV cache (%(default)s)",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=7860, help="port to listen on; 0 takes a free one")
    parser.add_argument("--allow-remote", action="store_true", help="let others in without a password or key")
    parser.add_argument(
        "--auth",
        metavar="FILE",
        type=Path,
        help="pages ask for a login; `python -m app.accounts FILE NAME` makes the file",
    )
    parser.add_argument("--no-page", action="store_true", help="serve the API only, without pages")
    parser.add_argument(
        "--data-folder",
        metavar="FOLDER",
        type=Path,
        default=default_data_folder(),
        help="where conversations and votes are kept (%(default)s)",
    )
    parser.add_argument(
        "--api-key-file",
        metavar="FILE",
        type=Path,
        help=f"its first line is the key API clients must send; default: ${API_KEY_VARIABLE}; the page needs no key",
    )
    for name, default, text in (
        ("max-queue", 256, "answers of API clients that may wait for a model; more get status 429"),
        ("max-body-bytes", 4 * 2**20, "size of the largest request"),
    ):
        parser.add_argument(f"--{name}", type=_count, default=default, metavar="N", help=f"{text} (%(default)s)")
    for name, seconds, text in (
        ("request-timeout", 600.0, "longest time from a request to its last word"),
        ("drain-timeout", 30.0, "how long answers may go on after SIGTERM"),
        ("step-timeout", 600.0, "end with status 70 if one step of the engine takes longer; 0 is off"),
    ):
        parser.add_argument(
            f"--{name}", type=_seconds, default=seconds, metavar="SECONDS", help=f"{text} (%(default)g)"
        )
    parser.add_argument("--log-format", default="text", choices=("text", "json"), help="of the log on stderr")
    options = parser.parse_args(arguments)
    try:
        options.api_key = _api_key(options.api_key_file)
    except (OSError, ValueError) as error:
        parser.error(f"the API key cannot be used: {error}")
    if options.revision is not None and len(options.checkpoint or ()) != 1:
        parser.error("--revision is of one checkpoint: give one --checkpoint with it")
    if not 0 <= options.port <= 65535:
        parser.error(f"--port {options.port} is not allowed: a port is a number from 0 to 65535")
    return options


def _count(text: str) -> int:
    if not (text.isascii() and text.isdecimal()):
        raise argparse.ArgumentTypeError(f"{text!r} is not allowed: give a whole number of at least 0")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not allowed: give a number of seconds of at least 0")
    return seconds


def _api_key(file: Path | None) -> str | None:
    """The key, which must be printable ASCII without blanks; it is never shown.

    Raises:
        OSError: the file cannot be read.
        ValueError: the key has other characters, or the file has none.
    """
    key = os.environ.get(API_KEY_VARIABLE) or None
    if file is not None:
        key = file.read_text().partition("\n")[0].strip()
    if key is not None and not (key.isascii() and key.isprintable() and key and " " not in key):
        raise ValueError("it must be printable ASCII characters without blanks")
    return key


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _listen(host: str, port: int) -> socket.socket:
    """A listening socket, taken before the model is loaded, so that a port in use is known at once."""
    family, kind, protocol, _, address = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(128)
    except OSError:
        listener.close()
        raise
    return listener


def _fail(sentence: str) -> int:
    print(f"error: {sentence}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
