"""Start the web app: `python -m app [--checkpoint FOLDER_OR_HUB_ID]`; see `--help`."""

from __future__ import annotations

import argparse
import ipaddress
import os
import signal
import socket
import sys
from types import FrameType
from typing import TYPE_CHECKING

# Read when gradio and huggingface_hub are imported: nothing this program does is reported to anyone.
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"

if TYPE_CHECKING:
    from model.interface import Engine

SECONDS_TO_LET_CONNECTIONS_END = 1


def main(arguments: list[str] | None = None) -> int:
    """Serve until told to end (Ctrl+C or SIGTERM); the exit status: 0, or 1 where something does not work."""
    options = _parse(arguments)
    if not options.allow_remote and not _is_loopback(options.host):
        return _fail(
            f"--host {options.host} lets other machines use this model without a password: "
            "add --allow-remote if you want that, or use 127.0.0.1"
        )
    try:
        listener = _listen(options.host, options.port)
    except OSError as error:
        return _fail(
            f"port {options.port} of {options.host} cannot be used ({error.strerror}): "
            "end the program that uses it, or choose another with --port"
        )
    with listener:
        try:
            return _open_and_serve(options, listener)
        except KeyboardInterrupt:  # while the model is loaded; later the server takes it
            return 130


def _open_and_serve(options: argparse.Namespace, listener: socket.socket) -> int:
    from model.interface import EngineError
    from model.open_engine import DEMO_CHECKPOINT, open_engine

    checkpoint = options.checkpoint or str(DEMO_CHECKPOINT)
    print(f"Loading {checkpoint} …", flush=True)
    try:
        engine = open_engine(
            checkpoint,
            revision=options.revision,
            device=options.device,
            dtype=options.dtype,
            rope_position_dtype=options.rope_position_dtype,
            context_length=options.context_length,
        )
    except EngineError as error:
        return _fail(str(error))
    try:
        _serve(engine, listener)
    finally:
        engine.close()
    return 0


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m app", description="Chat with a model in the browser.", allow_abbrev=False
    )
    parser.add_argument(
        "--checkpoint", metavar="FOLDER_OR_HUB_ID", help="the model; default: the bundled demonstration model"
    )
    parser.add_argument("--device", default="auto", help="auto (a GPU if there is one), cpu, cuda or cuda:N")
    parser.add_argument(
        "--dtype",
        default="auto",
        choices=("auto", "float32", "bfloat16", "float16"),
        help="number format; auto is bfloat16 on a GPU and float32 on a CPU",
    )
    parser.add_argument("--revision", help="of a Hub checkpoint: branch, tag or commit")
    parser.add_argument(
        "--rope-position-dtype",
        default="float32",
        choices=("float32", "bfloat16"),
        help="rotary positions as Hugging Face computes them (float32) or as Adept's server did (bfloat16)",
    )
    parser.add_argument("--context-length", type=int, help="most tokens of prompt and answer, if not the model's own")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=7860, help="port to listen on; 0 takes a free one")
    parser.add_argument("--allow-remote", action="store_true", help="let --host be an address others can reach")
    options = parser.parse_args(arguments)
    if not 0 <= options.port <= 65535:
        parser.error(f"--port {options.port} is not allowed: a port is a number from 0 to 65535")
    return options


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


def _serve(engine: Engine, listener: socket.socket) -> None:
    import uvicorn

    from app.server import create_app

    class Server(uvicorn.Server):
        """Says where it is once it answers, and ends answers first when it is told to end."""

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            if self.started:
                info = engine.info
                host, port = listener.getsockname()[:2]
                if info.notice is not None:
                    print(f"Note: {info.notice}")
                print(f"{info.model_name} on {info.device}, {info.dtype}; attention: {info.attention_backend}")
                cached = (info.num_blocks - 1) * info.block_size
                print(f"KV cache: {cached:,} tokens, shared by at most {info.max_num_requests} answers at once")
                print(f"Ready: http://{f'[{host}]' if ':' in host else host}:{port}", flush=True)

        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            engine.close()
            await super().shutdown(sockets)

    config = uvicorn.Config(
        create_app(engine),
        log_level="critical",
        access_log=False,
        timeout_graceful_shutdown=SECONDS_TO_LET_CONNECTIONS_END,
    )
    server = Server(config)

    def end(number: int, frame: FrameType | None) -> None:
        server.should_exit = True

    # uvicorn puts its own handlers in place while it runs and repeats the signal afterwards, to these.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)
    server.run(sockets=[listener])


def _fail(sentence: str) -> int:
    print(f"error: {sentence}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
