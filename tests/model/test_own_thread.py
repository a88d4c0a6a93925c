"""Work in a thread that ends."""

from __future__ import annotations

import threading

import pytest

from model.own_thread import in_own_thread


def test_gives_the_result_of_another_thread_which_is_gone() -> None:
    thread = in_own_thread(threading.current_thread)
    assert thread is not threading.current_thread()
    assert not thread.is_alive()


def test_raises_what_the_work_raises() -> None:
    def work() -> None:
        raise KeyError("this one")

    with pytest.raises(KeyError, match="this one"):
        in_own_thread(work)
