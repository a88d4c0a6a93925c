"""Where programs written by a model are run: HumanEval's functional tests, without trusting the program.

    sandbox = open_sandbox()                    # the strongest level that passes its self-test, or SandboxUnavailable
    verdicts = sandbox.run([Program(code=prompt + completion, test=test, entry_point=name), ...])

    python -m evals.sandbox --check             # which level works here, and why the others do not
    python -m evals.sandbox --bench FILE        # programs a second on HumanEval's own solutions

**How a verdict is reached.** Test and program run in two processes (`inside/judge.py`, `inside/answerer.py`). The
program's is forked before the request is read. The test's `candidate` sends its arguments over a pipe and gets plain
values back, so a program can answer calls and nothing else: the test, `assert`, the nonce and the pipe of verdicts are
never in a process the program runs in, and a returned value brings no methods along (see `inside/plain.py`). The judge
writes the verdict with a nonce drawn for this program; one with another nonce, or a second one, is `FORGED`, as are
answers nobody asked for and objects that decide for themselves what they equal. An exit, with whatever status, is
`EARLY_EXIT`. What the sandbox itself gets wrong is tried once more in a new one and is then `INFRASTRUCTURE_FAULT`.

**How it is held.** `BUBBLEWRAP`: new user, process, network, IPC and host name namespaces, no capabilities, a read-only
root with Python's and the system's libraries only, no /proc, /dev, /tmp. `NAMESPACES`, where bubblewrap is missing: the
same namespaces, and Landlock instead of mounts. At both, program and judge put themselves under an allow-list of system
calls (`inside/seccomp.py`) without any to start a process or thread, signal, trace, open a socket or change a file; and
under limits of address space, processor time and descriptors; the judge keeps the clock and counts what is printed. So
there is nothing a number of processes could be limited to, and no user id to rotate for that limit's sake. `NONE` has
to be asked for and holds nothing.

**What differs from HumanEval's own harness.** Arguments arrive as copies: a test cannot see that a program changed
them. Subclasses of built-in types arrive as the built-in type; values of other types equal nothing. Threads, processes,
sockets and temporary files fail. Exceptions of the program's own types reach a test as `Foreign`. `hash` of text and
`random` in the test are the same in every run.

**What is not covered.**

* A program that has learnt the tests' answers by heart passes; it is only asked what the test asks.
* The test, and the prompt before the entry point's `def`, are believed. They run as confined as the program, but a bad
  data set can pass or fail what it likes.
* A hole in the kernel's namespaces, seccomp, Landlock or memory limits; side channels (timing, caches).
* One sandbox serves many programs in turn. Nothing they can write to outlives them, but there is no new namespace for
  each; a program that got out of its own process could mislead the ones after it in that worker.
* Started by root, the program's user is root outside, though without any right and under another number inside: only
  namespaces and filter keep it from root's files, not their owner. As an ordinary user it is that user.
* Memory is limited per process, and judge and program are two: `workers` x 2 x `memory_bytes` at worst.
* At `NAMESPACES`, names, sizes and dates of the machine's files can be asked for; their contents cannot.
* Time is the wall's: a machine much too busy can time out a right program. Seccomp tables exist for x86-64 and 64-bit
  ARM (the latter never run); other processors are refused.
* `suspicions` is a list of patterns for a person to look at. A clean list proves nothing.
"""

from evals.sandbox.errors import SandboxUnavailable
from evals.sandbox.inside.limits import Limits
from evals.sandbox.inside.outcomes import Outcome
from evals.sandbox.levels import Level
from evals.sandbox.program import Program, Verdict
from evals.sandbox.sandbox import Sandbox, open_sandbox

__all__ = ["Level", "Limits", "Outcome", "Program", "Sandbox", "SandboxUnavailable", "Verdict", "open_sandbox"]
