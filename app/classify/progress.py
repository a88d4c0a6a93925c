"""A batch's progress in words."""

from __future__ import annotations

from app.classify.batch import Progress


def progress_text(progress: Progress) -> str:
    """Such as `1,024 rows, 12 not answered · 53 % · 310 rows/s · 2 min 5 s left`."""
    rows = f"{progress.num_rows:,} row{'' if progress.num_rows == 1 else 's'}"
    if progress.num_cut:
        rows += f", {progress.num_cut:,} cut"
    if progress.num_not_answered:
        rows += f", {progress.num_not_answered:,} not answered"
    parts = [rows]
    if progress.done is not None:
        parts.append(f"{100 * progress.done:.0f} %")
    if progress.rows_per_s is not None:
        parts.append(f"{progress.rows_per_s:,.0f} rows/s" if progress.rows_per_s >= 1 else "under 1 row/s")
    if progress.is_finished:
        parts.append(f"took {duration(progress.elapsed_s)}")
    elif progress.left_s is not None:
        parts.append(f"{duration(progress.left_s)} left")
    return " · ".join(parts)


def duration(seconds: float) -> str:
    """Such as `5 s`, `2 min 5 s`, `1 h 4 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
