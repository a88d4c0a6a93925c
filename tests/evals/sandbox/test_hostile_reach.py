"""Programs that reach for what is outside get nothing: files, environment, network, processes, rights."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from evals.sandbox import Outcome, Verdict

Attempt = Callable[..., None]
RunOne = Callable[..., Verdict]
ROOT = Path(__file__).resolve().parents[3]


def test_reading_the_repository(manages_nothing: Attempt) -> None:
    manages_nothing(
        [f"open({str(path)!r}).read()" for path in (ROOT / "README.md", ROOT / "evals" / "errors.py")]
        + [f"os.listdir({str(path)!r})" for path in (ROOT, ROOT / ".git", ROOT.parent)]
        + ["__import__('evals')", "__import__('model')"]
    )


def test_reading_the_machine(manages_nothing: Attempt) -> None:
    home = str(Path.home())
    files = ["/etc/passwd", "/etc/shadow", "/etc/hostname", "/proc/version", "/sys/kernel/notes", f"{home}/.bashrc"]
    folders = ["/home", home, "/root", "/var", "/proc", "/dev", "/sys", "/tmp", "/mnt"]
    manages_nothing(
        [f"open({path!r}).read()" for path in files]
        + [f"os.listdir({path!r})" for path in folders]
        + ["[name for name in os.listdir('/etc') if name != 'ld.so.cache'][0]"]
    )


def test_reading_a_file_just_made(manages_nothing: Attempt, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret")
    secret.chmod(0o644)

    manages_nothing([f"open({str(secret)!r}).read()", f"os.open({str(secret)!r}, os.O_RDWR)"])


def test_reading_the_environment(run_one: RunOne, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SANDBOX_SECRET", "secret")
    code = "import ctypes, os\ndef f():\n    c = ctypes.CDLL(None)\n    c.getenv.restype = ctypes.c_char_p\n"
    code += "    return [dict(os.environ), c.getenv(b'SANDBOX_SECRET'), c.getenv(b'PATH'), c.getenv(b'HOME')]\n"

    verdict = run_one(code, "def check(candidate):\n    assert candidate() == [{}, None, None, None], candidate()\n")

    assert verdict.outcome is Outcome.PASSED, verdict


def test_filling_the_disk(manages_nothing: Attempt) -> None:
    folders = ["/", "/tmp", "/var/tmp", "/dev/shm", "/home", ".", str(ROOT), str(Path.home())]
    manages_nothing(
        [f"open(os.path.join({folder!r}, 'full'), 'w').write('x' * 1000)" for folder in folders]
        + [f"os.mkdir(os.path.join({folder!r}, 'made'))" for folder in folders]
        + ["tempfile.TemporaryFile()", "os.memfd_create('memory')", "os.mkfifo('/pipe')", "os.symlink('/', '/link')"],
        imports="import os, tempfile",
    )


def test_changing_what_is_there(manages_nothing: Attempt, tmp_path: Path) -> None:
    path = tmp_path / "kept"
    path.write_text("kept")
    own = str(path)
    manages_nothing(
        [
            f"os.{call}"
            for call in (
                f"truncate({own!r}, 0)",
                f"unlink({own!r})",
                f"chmod({own!r}, 0o777)",
                f"utime({own!r})",
                f"rename({own!r}, {own + '2'!r})",
                f"link({own!r}, {own + '2'!r})",
                f"setxattr({own!r}, 'user.x', b'x')",
                "chown('/lib', 0, 0)",
            )
        ]
    )
    assert path.read_text() == "kept"


def test_network(manages_nothing: Attempt) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        manages_nothing(
            [
                f"socket.create_connection(('127.0.0.1', {port}), 1)",
                "socket.create_connection(('192.0.2.1', 80), 1)",
                "socket.getaddrinfo('example.org', 80)",
                "socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('192.0.2.1', 53))",
                "socket.socket(socket.AF_UNIX)",
                "socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)",
                "socket.create_server(('127.0.0.1', 0))",
                "socket.socketpair()",
                "urllib.request.urlopen('http://192.0.2.1/', timeout=1)",
            ],
            imports="import socket, urllib.request",
        )


def test_fork_bomb(run_one: RunOne) -> None:
    """Bounded, should the sandbox not hold."""
    code = "import os\ndef f(x):\n    for _ in range(6):\n        os.fork()\n    return x * x\n"

    verdict = run_one(code)

    assert verdict.outcome is Outcome.FAILED
    assert "PermissionError" in verdict.message


def test_fork_bomb_that_never_gives_up(run_one: RunOne) -> None:
    code = """
import os
def f(x):
    started = 0
    for _ in range(1000):
        try:
            if os.fork() == 0:
                os._exit(0)
            started += 1
        except OSError:
            pass
    return x * x if not started else started
"""
    assert run_one(code).outcome is Outcome.PASSED


def test_starting_programs(manages_nothing: Attempt) -> None:
    manages_nothing(
        [
            "subprocess.run(['/bin/sh', '-c', 'true'])",
            "os.posix_spawn('/python/bin/python3', ['python3'], {})",
            "os.execv('/bin/true', ['true'])",
            "os.execv(sys.executable, ['python', '-c', ''])",
            "multiprocessing.get_context('fork').Process(target=int).start()",
            "os.forkpty()",
        ],
        imports="import multiprocessing, os, subprocess, sys",
    )


def test_threads_left_running(manages_nothing: Attempt) -> None:
    manages_nothing(
        [
            "threading.Thread(target=time.sleep, args=(100,), daemon=True).start()",
            "threading.Thread(target=time.sleep, args=(100,)).start()",
            "_thread.start_new_thread(time.sleep, (100,))",
            "concurrent.futures.ThreadPoolExecutor().submit(int)",
            "threading.Timer(0.1, int).start()",
        ],
        imports="import _thread, concurrent.futures, threading, time",
    )


def test_signals(manages_nothing: Attempt) -> None:
    """Signal 0 asks only whether one may, so nothing happens should the sandbox not hold."""
    manages_nothing(
        [
            "os.kill(os.getppid(), 0)",
            "os.kill(1, 0)",
            "os.kill(-1, 0)",
            "os.killpg(0, 0)",
            "os.pidfd_open(os.getppid())",
            "signal.setitimer(signal.ITIMER_REAL, 0.1)",
            "fcntl.fcntl(0, fcntl.F_SETOWN, os.getppid())",
            "fcntl.fcntl(0, 10, 0)",
            "os.setpriority(os.PRIO_USER, 0, 19)",
            "resource.prlimit(os.getppid(), resource.RLIMIT_CPU, (0, 0))",
            "os.sched_setaffinity(os.getppid(), {0})",
        ],
        imports="import fcntl, os, resource, signal",
    )


# Numbers of x86-64; on another processor they are other calls, and refused as well or harmless.
SYSTEM_CALLS = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
def call(*arguments):
    if libc.syscall(*arguments) < 0:
        raise OSError(ctypes.get_errno(), 'refused')
"""


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the numbers are those of x86-64")
def test_system_calls_by_number(manages_nothing: Attempt) -> None:
    calls = {
        "ptrace": "101, 16, os.getppid(), 0, 0",
        "process_vm_readv": "310, os.getppid(), 0, 0, 0, 0, 0",
        "process_vm_writev": "311, os.getppid(), 0, 0, 0, 0, 0",
        "pidfd_getfd": "438, 0, 0, 0",
        "clone": "56, 17, 0, 0, 0, 0",
        "fork": "57",
        "vfork": "58",
        "clone3": "435, 0, 0",
        "execve": "59, b'/bin/true', 0, 0",
        "unshare": "272, 0x10000000",
        "setns": "308, 0, 0",
        "mount": "165, b'x', b'/', b'tmpfs', 0, 0",
        "chroot": "161, b'/'",
        "pivot_root": "155, b'/', b'/'",
        "setuid": "105, 0",
        "keyctl": "250, 0, 0, 0",
        "bpf": "321, 0, 0, 0",
        "perf_event_open": "298, 0, 0, 0, 0, 0",
        "userfaultfd": "323, 0",
        "io_uring_setup": "425, 1, 0",
        "shmget": "29, 0, 4096, 0o1600",
        "memfd_create": "319, b'x', 0",
        "prctl": "157, 38, 1, 0, 0, 0",
        "seccomp": "317, 0, 0, 0",
        "fork in the x32 table": "0x40000000 + 57",
        "TIOCSTI": "16, 0, 0x5412, b'x'",
    }
    manages_nothing([f"call({arguments})" for arguments in calls.values()], imports=SYSTEM_CALLS)


def test_more_of_a_limit(manages_nothing: Attempt) -> None:
    manages_nothing(
        [
            "resource.setrlimit(resource.RLIMIT_AS, (1 << 40, 1 << 40))",
            "resource.setrlimit(resource.RLIMIT_CPU, (10 ** 6, 10 ** 6))",
            "resource.setrlimit(resource.RLIMIT_NOFILE, (10 ** 6, 10 ** 6))",
            "[os.dup(0) for _ in range(100)]",
        ],
        imports="import os\nimport resource as real\nclass resource:\n"
        "    RLIMIT_AS, RLIMIT_CPU, RLIMIT_NOFILE = real.RLIMIT_AS, real.RLIMIT_CPU, real.RLIMIT_NOFILE\n"
        "    def setrlimit(kind, value):\n"
        "        try:\n            real.setrlimit(kind, value)\n"
        "        except ValueError as error:\n            raise OSError from error\n",
    )


def test_descriptors_left_open(run_one: RunOne) -> None:
    """A program finds its empty input, its two outputs and its two pipes, all of them pipes."""
    code = """
import os, stat
def f():
    found = []
    for number in range(64):
        try:
            found.append(stat.S_ISFIFO(os.fstat(number).st_mode))
        except OSError:
            pass
    return found
"""
    verdict = run_one(code, "def check(candidate):\n    assert candidate() == [True] * 5, candidate()\n")

    assert verdict.outcome is Outcome.PASSED, verdict


def test_input_is_empty(run_one: RunOne) -> None:
    verdict = run_one("def f(x):\n    return input()\n")

    assert verdict.outcome is Outcome.FAILED
    assert "EOFError" in verdict.message


def test_processes_in_sight(run_one: RunOne) -> None:
    """Inside, the judge is the parent and the sandbox's first process is number 1."""
    code = "import os\ndef f():\n    return [os.getuid() != 0, os.getpid() < 10 ** 4, os.getppid() > 1]\n"

    verdict = run_one(code, "def check(candidate):\n    assert candidate() == [True, True, True], candidate()\n")

    assert verdict.outcome is Outcome.PASSED, verdict
