"""Functions run each in a fresh process, so that nothing is shared but what is passed."""

from __future__ import annotations

import importlib
import logging
import multiprocessing
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, ParamSpec, TypeVar

from evals.errors import EvaluationError

logger = logging.getLogger(__name__)

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


class Alone:
    """Runs functions of module level in new processes, one at a time.

    Args:
        threads: torch's, in every process.
    """

    def __init__(self, threads: int) -> None:
        self.threads = threads

    def __call__(
        self, function: Callable[_Arguments, _Result], *arguments: _Arguments.args, **options: _Arguments.kwargs
    ) -> _Result:
        """`function(*arguments, **options)`, computed elsewhere.

        Raises:
            EvaluationError: the function raised one, or failed otherwise (its traceback is on stderr), or the process
                ended before its result, as one that is killed for its memory does.
        """
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(1, mp_context=context, initializer=_prepare, initargs=(self.threads,)) as pool:
            try:
                result: _Result = pool.submit(
                    _guarded, function.__module__, function.__qualname__, arguments, options
                ).result()
            except BrokenProcessPool:
                raise EvaluationError(
                    f"the process of {function.__module__}.{function.__qualname__} was killed: free memory and run "
                    "again"
                ) from None
            return result


def _guarded(module: str, name: str, arguments: tuple[object, ...], options: Mapping[str, object]) -> Any:
    """Import and call a function, and turn every failure into an error that can be sent: some exceptions cannot."""
    try:
        return getattr(importlib.import_module(module), name)(*arguments, **options)
    except EvaluationError:
        raise
    except Exception as error:
        logger.exception("%s.%s failed", module, name)
        raise EvaluationError(f"{module}.{name} failed ({type(error).__name__}: {error})") from None


def _prepare(threads: int) -> None:
    import torch
    import transformers

    torch.set_num_threads(threads)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
