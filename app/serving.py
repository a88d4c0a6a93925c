"""From a listening socket to served models, and to their end.

The server answers from the start: until the models are loaded, and again while it ends, with 503 and how soon to come
again, so that whoever starts, balances and stops servers can tell what it is doing.
"""

from __future__ import annotations

import asyncio
import faulthandler
import gc
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from types import FrameType
from typing import TYPE_CHECKING, Any, TypeVar

import uvicorn
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from app.api.errors import unavailable
from app.api.service import Service
from model.interface import Engine, EngineError

if TYPE_CHECKING:
    from fastapi import FastAPI

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

SECONDS_TO_LET_CONNECTIONS_END = 1
SECONDS_TO_CLOSE_THE_ENGINES = 15.0
TICKS_BETWEEN_LOOKS = 10  # of 0.1 s, uvicorn's
GIL_SWITCH_S = 0.0005
"""Python's own 5 ms: so long the engine's thread may keep the event loop's waiting, at every read and write of every
connection."""
LOADING = "the models are being loaded"
EXIT_INTERRUPTED = 130
EXIT_STUCK = 70  # EX_SOFTWARE: a supervisor starts the process again


class FrontDoor:
    """The ASGI application that is there before the models are."""

    def __init__(self) -> None:
        self.app: ASGIApp | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.app is not None:
            await self.app(scope, receive, send)
        elif scope["type"] == "http" and scope["path"] == "/health/live":
            await JSONResponse({"live": True})(scope, receive, send)
        elif scope["type"] == "http" and scope["path"] in ("/health", "/health/ready"):
            state = {"ready": False, "error": LOADING}
            await JSONResponse(state, status_code=503)(scope, receive, send)
        elif scope["type"] == "http":
            await unavailable(f"{LOADING}: try again later").response()(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1013})  # try again later


class AppServer(uvicorn.Server):
    """Opens engines, serves them, and ends.

    Args:
        listener: a listening socket.
        open_engines: called in a thread of its own.
        create_app: the application over the engines.
        say_ready: called once requests are answered. say_failed: called with why the server ends; the exit status.
        drain_s: how long after SIGTERM answers may go on. step_s: how long one step of an engine may take, 0 for any
            time; a stuck engine cannot be woken, so the process ends for its supervisor.
    """

    def __init__(
        self,
        listener: socket.socket,
        *,
        open_engines: Callable[[], Sequence[Engine]],
        create_app: Callable[[Sequence[Engine]], FastAPI],
        say_ready: Callable[[Sequence[Engine]], None],
        say_failed: Callable[[str], int],
        drain_s: float,
        step_s: float,
    ) -> None:
        self._door = FrontDoor()
        super().__init__(
            uvicorn.Config(
                self._door,
                log_level="critical",
                access_log=False,
                lifespan="off",
                timeout_graceful_shutdown=SECONDS_TO_LET_CONNECTIONS_END,
            )
        )
        self._listener = listener
        self._open_engines = open_engines
        self._create_app = create_app
        self._say_ready = say_ready
        self._say_failed = say_failed
        self._drain_s = drain_s
        self._step_s = step_s
        self._engines: Sequence[Engine] = ()
        self._service: Service | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._leave_lifespan = asyncio.Event()
        self._signal: int | None = None
        self._failure: str | None = None

    def serve_until_told_to_end(self) -> int:
        """The process's exit status: 0, or 1 where a model cannot be loaded or an engine failed."""

        def end(number: int, frame: FrameType | None) -> None:
            self.handle_exit(number, frame)

        sys.setswitchinterval(GIL_SWITCH_S)
        # uvicorn puts its own handlers in place while it runs and repeats the signal afterwards, to these.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, end)
        self.run(sockets=[self._listener])
        if self._failure is not None:
            status = self._say_failed(self._failure)
        elif not self._engines and self._signal == signal.SIGINT:
            status = EXIT_INTERRUPTED
        else:
            status = 0
        if not self._engines:  # still being loaded by a thread that cannot be stopped
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
        return status

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._signal = sig
        super().handle_exit(sig, frame)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._tasks.append(asyncio.create_task(self._load()))

    async def on_tick(self, counter: int) -> bool:
        if counter % TICKS_BETWEEN_LOOKS == 0:
            for engine in self._engines:
                self._look_after(engine)
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        if self._service is not None:
            self._service.drain()
            if self._signal == signal.SIGTERM:
                await self._drain(self._service)
        await self._close(self._engines)
        await super().shutdown(sockets)
        self._leave_lifespan.set()
        for task in self._tasks:
            if not self._engines:
                task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _load(self) -> None:
        try:
            engines = await asyncio.wrap_future(_in_thread(self._open_engines))
        except EngineError as error:
            self._fail(str(error))
            return
        except Exception as error:
            logger.exception("the models could not be loaded")
            self._fail(f"the models could not be loaded ({type(error).__name__}: {error})")
            return
        try:
            app = self._create_app(engines)
            entered = asyncio.Event()
            lifespan = asyncio.create_task(self._live(app, entered))
            self._tasks.append(lifespan)
            waiting = asyncio.create_task(entered.wait())
            await asyncio.wait({lifespan, waiting}, return_when=asyncio.FIRST_COMPLETED)
            if not entered.is_set():
                waiting.cancel()
                lifespan.result()  # raises what went wrong
        except Exception as error:
            for engine in engines:
                engine.close()
            logger.exception("the application could not be started")
            self._fail(f"the application could not be started ({type(error).__name__}: {error})")
            return
        # What is there by now stays: the collector would look through it all again and again, and while it does (0.2 s)
        # nobody is answered.
        gc.collect()
        gc.freeze()
        self._engines = engines
        self._service = app.state.service
        self._door.app = app
        self._say_ready(engines)

    async def _live(self, app: FastAPI, entered: asyncio.Event) -> None:
        """The application's lifespan, from its start to its end in one task."""
        async with app.router.lifespan_context(app):
            entered.set()
            await self._leave_lifespan.wait()

    def _look_after(self, engine: Engine) -> None:
        """End the process if the engine has failed or hangs."""
        stats = engine.stats()
        if stats.is_closed and not self.should_exit:
            self._fail(f"the engine of {engine.info.model_name} failed: see the log above, and start the server again")
        elif self._step_s and stats.step_age_s > self._step_s:
            _die(
                f"one step of the engine of {engine.info.model_name} has taken {stats.step_age_s:.0f} s, more than "
                f"--step-timeout {self._step_s:g}"
            )

    async def _drain(self, service: Service) -> None:
        """Let answers end, for a while."""
        loop = asyncio.get_running_loop()
        end = loop.time() + self._drain_s
        while loop.time() < end and not self.force_exit:
            loads = [model.engine.stats() for model in service.models.values()]
            busy = service.num_admitted or any(load.num_running or load.num_waiting for load in loads)
            if not busy or any(load.is_closed for load in loads):
                return
            await asyncio.sleep(0.05)
        logger.warning("some answers were cut: they took longer than the %g s they had to end", self._drain_s)

    async def _close(self, engines: Sequence[Engine]) -> None:
        closing = [asyncio.wrap_future(_in_thread(engine.close)) for engine in engines]
        try:
            await asyncio.wait_for(asyncio.gather(*closing), SECONDS_TO_CLOSE_THE_ENGINES)
        except TimeoutError:
            _die(f"the engines did not end within {SECONDS_TO_CLOSE_THE_ENGINES:g} s")

    def _fail(self, sentence: str) -> None:
        self._failure = sentence
        self.should_exit = True


def _in_thread(function: Callable[[], Result]) -> Future[Result]:
    """The result of a call in a thread that does not keep the process alive."""
    future: Future[Any] = Future()

    def call() -> None:
        try:
            result = function()
        except BaseException as error:
            if not future.cancelled():
                future.set_exception(error)
        else:
            if not future.cancelled():
                future.set_result(result)

    threading.Thread(target=call, name="engine-keeper", daemon=True).start()
    return future


def _die(sentence: str) -> None:
    """End at once, with what every thread is doing: a thread that hangs would never let the process end."""
    logger.critical(sentence)
    faulthandler.dump_traceback(all_threads=True)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(EXIT_STUCK)
