"""Do something in a thread that ends afterwards."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

Result = TypeVar("Result")


def in_own_thread(work: Callable[[], Result]) -> Result:
    """What `work` returns or raises.

    Torch keeps helper threads for every thread that computed something on a CPU, as long as that one lives, and where
    there are more of them than cores OpenMP's runtime lets them sleep between two operations (libgomp,
    GOMP_SPINCOUNT): waking them costs more than a small operation. A model that was loaded in a thread that has ended
    leaves the cores to the engine's (measured: 16 instead of 20 ms a token, 100 M parameters, two cores).
    """
    future: Future[Any] = Future()

    def call() -> None:
        try:
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)

    thread = threading.Thread(target=call, name="loader", daemon=True)
    thread.start()
    result: Result = future.result()
    thread.join()
    return result
