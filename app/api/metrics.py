"""`GET /metrics`, in Prometheus's text format (prometheus.io/docs/instrumenting/exposition_formats, version 0.0.4)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from app.api.counters import BUCKETS_S
from app.api.service import Service

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


GAUGES: tuple[tuple[str, str, str], ...] = (
    ("requests_running", "num_running", "Requests computed now."),
    ("requests_waiting", "num_waiting", "Requests waiting in the engine."),
    ("kv_blocks_free", "num_free_blocks", "KV blocks no request holds."),
    ("kv_blocks_usable", "num_usable_blocks", "KV blocks there are."),
    ("generated_tokens_per_second", "tokens_per_s", "Over the last 10 seconds."),
)
TOTALS: tuple[tuple[str, str, str], ...] = (
    ("generated_tokens", "num_generated_tokens", "Tokens generated."),
    ("prompt_tokens", "num_prompt_tokens", "Prompt tokens of requests that began to run."),
    ("cached_tokens", "num_cached_tokens", "Prompt tokens found in the prefix cache."),
    ("draft_tokens", "num_draft_tokens", "Tokens guessed by speculative decoding."),
    ("accepted_tokens", "num_accepted_tokens", "Guessed tokens that were right."),
    ("second_matrix_rows", "num_rows", "Rows of second MLP matrices, where those of zeros are skipped."),
    ("second_matrix_rows_live", "num_live_rows", "Those of them that were read for what they hold."),
    ("requests_finished", "num_finished", "Requests that finished."),
    ("requests_aborted", "num_aborted", "Requests that were aborted."),
    ("preemptions", "num_preemptions", "Requests put back to make room."),
    ("steps", "num_steps", "Batches computed."),
)
"""What comes after `engine_`, the attribute of `EngineStats`, what it is."""
LATENCIES: tuple[tuple[str, str, str], ...] = (
    ("time_to_first_token_seconds", "ttft_s", "Of the last requests."),
    ("inter_token_seconds", "inter_token_s", "Of the last tokens."),
)


async def metrics(service: Service, request: Request) -> Response:
    """The engines' load and what the API counted."""
    lines = [*_engine_lines(service), *_gate_lines(service), *_request_lines(service)]
    return PlainTextResponse("\n".join(lines) + "\n", headers={"Content-Type": CONTENT_TYPE})


def _engine_lines(service: Service) -> Iterator[str]:
    stats = {_label(name): model.engine.stats() for name, model in service.models.items()}
    for kind, ending, table in (("gauge", "", GAUGES), ("counter", "_total", TOTALS)):
        for name, attribute, text in table:
            values = {label: getattr(one, attribute) for label, one in stats.items()}
            yield from _metric(f"engine_{name}{ending}", kind, text, values)
    for name, attribute, text in LATENCIES:
        known = {label: latency for label, one in stats.items() if (latency := getattr(one, attribute)) is not None}
        for ending, part in (("p50", "p50"), ("p95", "p95"), ("max", "maximum")):
            values = {label: f"{getattr(latency, part):.6f}" for label, latency in known.items()}
            yield from _metric(f"engine_{name}_{ending}", "gauge", text, values)


def _gate_lines(service: Service) -> Iterator[str]:
    gates = {_label(name): model.gate for name, model in service.models.items()}
    admitted = {label: gate.num_admitted for label, gate in gates.items()}
    rejected = {label: gate.num_rejected for label, gate in gates.items()}
    yield from _metric("api_answers_admitted", "gauge", "Answers API clients wait for.", admitted)
    text = "Requests refused because the queue was full."
    yield from _metric("api_requests_rejected_total", "counter", text, rejected)


def _request_lines(service: Service) -> Iterator[str]:
    counters = service.counters
    yield from _head("api_requests_total", "counter", "Requests that ended, by path and status.")
    for (path, status), count in sorted(counters.requests.items()):
        yield f'api_requests_total{{path="{path}",status="{status}"}} {count}'
    name = "api_request_duration_seconds"
    yield from _head(name, "histogram", "From a request's arrival to its last byte.")
    for path, within in sorted(counters.durations.items()):
        for bound, count in zip((*(f"{bound:g}" for bound in BUCKETS_S), "+Inf"), within, strict=True):
            yield f'{name}_bucket{{path="{path}",le="{bound}"}} {count}'
        yield f'{name}_sum{{path="{path}"}} {counters.seconds[path]:.6f}'
        yield f'{name}_count{{path="{path}"}} {within[-1]}'


def _label(model: str) -> str:
    """The label of a model, its name escaped."""
    escaped = model.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
    return f'{{model="{escaped}"}}'


def _metric(name: str, kind: str, text: str, values: Mapping[str, object]) -> Iterator[str]:
    """One metric with a value for each label, if there is any."""
    if not values:
        return
    yield from _head(name, kind, text)
    for label, value in values.items():
        yield f"{name}{label} {value}"


def _head(name: str, kind: str, text: str) -> Iterator[str]:
    yield f"# HELP {name} {text}"
    yield f"# TYPE {name} {kind}"
