"""What a program may use, and how the kernel is told."""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """Limits of one program, all of them per program. It gets no second process, no second thread and no file.

    Args:
        seconds: wall clock from the program's arrival to its verdict.
        memory_bytes: address space of the program's process.
        output_bytes: what it may print; more ends it.
        answer_bytes: the largest value a call may return, as bytes on the wire.
        open_files: descriptors it may have open.

    Raises:
        ValueError: a value is not above 0.
    """

    seconds: float = 10.0
    memory_bytes: int = 1 << 30
    output_bytes: int = 64 << 10
    answer_bytes: int = 1 << 20
    open_files: int = 32

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not value > 0:
                raise ValueError(f"{field.name}={value} is not allowed: it must be above 0")


def apply(limits: Limits) -> None:
    """Give this process the limits the kernel counts; they cannot be raised again.

    Raises:
        OSError, ValueError: the system refuses one.
    """
    import resource

    # The judge's clock ends a program first; this one is for what that clock cannot interrupt.
    cpu_seconds = int(limits.seconds) + 2
    for kind, soft, hard in (
        (resource.RLIMIT_AS, limits.memory_bytes, limits.memory_bytes),
        (resource.RLIMIT_CPU, cpu_seconds, cpu_seconds + 1),
        (resource.RLIMIT_FSIZE, 0, 0),
        (resource.RLIMIT_CORE, 0, 0),
        (resource.RLIMIT_NOFILE, limits.open_files, limits.open_files),
    ):
        _, allowed = resource.getrlimit(kind)
        if allowed != resource.RLIM_INFINITY:
            soft, hard = min(soft, allowed), min(hard, allowed)
        resource.setrlimit(kind, (soft, hard))
