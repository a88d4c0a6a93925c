"""The load test passes a server that does well and fails one that does not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import httpx
import pytest

from app.api.load_test import overload
from app.api.load_test.__main__ import main
from app.api.load_test.fuzz import _in_shape
from app.api.options import ApiOptions

Serve = Callable[..., Any]
SMALL = ("--clients", "12", "--seconds", "1", "--requests", "30", "--at-once", "4", "--kills", "2", "--bodies", "40")


@pytest.mark.slow
def test_a_server_that_does_well(
    serve: Serve, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overload, "SLOWEST_REFUSAL_S", 5.0)  # other programs may use the machine
    served = serve(options=ApiOptions(max_queue=2), answer=lambda prompt: "x" * 200, tokens_per_s=500)
    assert main(["--url", served.address, *SMALL]) == 0, capsys.readouterr().out
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == [
        f"pass  {name}" for name in ("overload", "aborts", "kills", "fuzz")
    ]


def test_a_server_that_loses_blocks(
    serve: Serve, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    served = serve(answer=lambda prompt: "x" * 20)
    engine = served.engine
    lost = iter(range(1000))
    stats = engine.stats

    def losing() -> Any:
        found = stats()
        return replace(found, num_free_blocks=found.num_free_blocks - next(lost))

    monkeypatch.setattr(engine, "stats", losing)
    assert main(["--url", served.address, "kills", *SMALL]) == 1
    assert capsys.readouterr().out.startswith("FAIL  kills")


def test_a_server_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--url", "http://127.0.0.1:9", "fuzz"]) == 1
    assert capsys.readouterr().err.startswith("error: ")


def test_sigterm_is_for_its_own_server_only(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--url", "http://127.0.0.1:9", "sigterm"])
    assert "leave --url out" in capsys.readouterr().err


def test_a_reply_is_in_shape_or_not() -> None:
    error = {"message": "m", "type": "t", "param": None, "code": None}
    assert _in_shape(httpx.Response(400, json={"error": error}))
    assert not _in_shape(httpx.Response(400, json={"detail": "m"}))
    assert not _in_shape(httpx.Response(400, json={"error": error | {"message": "Traceback (most recent call last)"}}))
    assert not _in_shape(httpx.Response(400, text="<html>"))
