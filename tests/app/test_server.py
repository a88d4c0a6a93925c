"""The server's routes and headers, and the command line up to the model."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from scripted_engine import ScriptedEngine

from app.__main__ import main
from app.server import create_app
from app.visitors import COOKIE


@pytest.mark.slow
def test_health_tells_what_runs_until_the_engine_closes() -> None:
    engine = ScriptedEngine(notice="A demonstration model.")
    with TestClient(create_app([engine])) as client:
        reply = client.get("/health")
        assert reply.status_code == 200
        state = reply.json()
        assert state["ready"] is True
        (model,) = state["models"]
        assert (model["model_name"], model["device"], model["dtype"]) == ("scripted-engine", "cpu", "float32")
        assert model["attention_backend"].startswith("scripted")
        assert model["kernels"] == "not stated"
        assert model["attention_not_used"] == {"triton": "it needs an NVIDIA GPU"}
        assert model["notice"] == "A demonstration model."
        assert model["stats"]["num_running"] == 0
    engine.close()


@pytest.mark.slow
def test_every_page_forbids_the_browser_to_call_out() -> None:
    engine = ScriptedEngine()
    with TestClient(create_app([engine])) as client:
        for path in ("/", "/health", "/config", "/not-there"):
            headers = client.get(path).headers
            policy = headers["content-security-policy"]
            assert "default-src 'self'" in policy
            assert "unsafe-eval" not in policy
            assert "http:" not in policy
            assert "https:" not in policy
            assert headers["x-dns-prefetch-control"] == "off"
        assert "fonts.googleapis" not in client.get("/").text
    engine.close()


def test_a_port_in_use_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["--port", str(port)]) == 1
    message = capsys.readouterr().err
    assert message.startswith(f"error: port {port} of 127.0.0.1 cannot be used")
    assert message.count("\n") == 1


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org"])
def test_other_machines_are_let_in_only_when_asked_for(host: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--host", host]) == 1
    assert "add --auth FILE for the pages and --api-key-file FILE for the API, add --allow" in capsys.readouterr().err


def test_pages_with_a_login_still_need_a_key_for_the_api(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    users = tmp_path / "users.txt"
    assert main(["--host", "192.0.2.1", "--auth", str(users)]) == 1
    assert "add --api-key-file FILE for the API, add --allow-remote" in capsys.readouterr().err
    key = tmp_path / "key"
    key.write_text("secret\n")
    assert main(["--host", "192.0.2.1", "--auth", str(users), "--api-key-file", str(key)]) == 1
    assert "the file of accounts" in capsys.readouterr().err
    assert main(["--host", "192.0.2.1", "--no-page", "--api-key-file", str(key)]) == 1
    assert "port 7860 of 192.0.2.1 cannot be used" in capsys.readouterr().err


def test_a_data_folder_that_cannot_be_used_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    assert main(["--port", "0", "--data-folder", str(tmp_path / "file")]) == 1
    message = capsys.readouterr().err
    assert message.startswith(f"error: the database {tmp_path / 'file' / 'app.sqlite3'} cannot be used")
    assert message.count("\n") == 1


@pytest.mark.slow
def test_a_browser_keeps_its_cookie_and_an_api_client_gets_none() -> None:
    engine = ScriptedEngine()
    with TestClient(create_app([engine])) as client:
        assert "set-cookie" not in client.get("/health").headers
        cookie = client.get("/").headers["set-cookie"]
        assert cookie.startswith(f"{COOKIE}=")
        assert "HttpOnly; SameSite=Lax; Path=/" in cookie
        assert "set-cookie" not in client.get("/").headers
        client.cookies.clear()
        assert client.get("/").headers["set-cookie"] != cookie
    engine.close()


def test_a_wrong_option_ends_with_usage(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["--prot", "1"], ["--dtype", "int3"]):
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert ended.value.code == 2
    with pytest.raises(SystemExit):
        main(["--revision", "main", "--checkpoint", "a", "--checkpoint", "b"])
    assert "--revision is of one checkpoint" in capsys.readouterr().err


def test_a_port_that_is_none_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--port", "99999"])
    assert "--port 99999 is not allowed" in capsys.readouterr().err


@pytest.mark.slow
def test_a_checkpoint_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    missing = ["--checkpoint", "no-such-folder/at-all/here", "--data-folder", str(tmp_path)]
    ended = subprocess.run(
        [sys.executable, "-m", "app", "--port", "0", *missing],
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | {"HF_HUB_OFFLINE": "1"},
    )
    assert ended.returncode == 1
    assert ended.stderr.startswith("error: ")
    assert "Traceback" not in ended.stderr
