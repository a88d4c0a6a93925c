"""Reports of the engine's benchmark with made-up figures, and with none."""

from __future__ import annotations

from evals.bench_engine.results import Figure, Report, Section

EMPTY = Report(
    schema=1,
    size="full",
    dtype="bfloat16",
    machine={"gpu": "NVIDIA H200", "processor": "a processor", "cores": 16, "memory_gib": 128.0},
    versions={"torch": "2.11.0"},
    sources="0",
    sections=(),
)


def measured() -> Report:
    """A report with made-up figures of every section."""

    def section(name: str, *figures: Figure) -> Section:
        return Section(name=name, status="measured", seconds=1.0, figures=figures)

    def step(name: str, batch: int, context: int, value: float, roof: float | None = None) -> Figure:
        more = {"flops": 1e10 * batch, "bytes": 16_000_000_000} if name == "bare step" else {}
        return Figure(name=name, value=value, unit="s", batch=batch, context=context, roof=roof, more=more)

    mixed = {"seconds": 10.0, "generated": 100}
    prompt = {"flops": 7e13, "bytes": 18_000_000_000, "of_product": 0.6}
    tokens = {"differing": 1, "answers": 6}
    sections = [
        section(
            "roofs",
            Figure(name="copy", value=4.3e12, unit="bytes/s"),
            Figure(name="product", value=7.9e14, unit="FLOP/s"),
            Figure(name="datasheet", value=989.4e12, unit="FLOP/s"),
        ),
        section(
            "gate",
            Figure(name="error of our kernels", value=0.01, unit="relative", roof=0.02),
            Figure(name="shortfall together", value=0.001, unit="logits", roof=0.05, more=tokens),
        ),
        section(
            "decode",
            step("step", 1, 128, 0.0045, 0.0040),
            step("bare step", 1, 128, 0.0044, 0.0040),
            step("step", 64, 1024, 0.0160, 0.0120),
            step("bare step", 64, 1024, 0.0155, 0.0120),
        ),
        section(
            "sparse",
            *(
                Figure(
                    name="zeros 0.9", value=value, unit="s", batch=batch, context=128,
                    more={"dense_s": 0.0044, "live": 0.1, "live_if_independent": 0.1},
                )
                for batch, value in ((1, 0.0033), (4, 0.0040), (8, 0.0045))
            ),
        ),
        section(
            "prefill",
            *(
                Figure(name="prompt", value=value, unit="s", context=length, roof=0.06, more=prompt)
                for length, value in ((4096, 0.1), (16000, 0.5))
            ),
        ),
        section("mixed", Figure(name="throughput", value=4000.0, unit="tokens/s", batch=256, more=mixed)),
        section("hf-generate-batch", Figure(name="throughput", value=1000.0, unit="tokens/s", batch=256, more=mixed)),
        section("hf-eager", step("step", 1, 128, 0.030)),
        section("hf-static-compile", step("step", 1, 128, 0.0066)),
        section("no-graphs", step("step with graphs", 1, 128, 0.0045), step("step without graphs", 1, 128, 0.02)),
        section("llama-2-7b", step("step", 1, 128, 0.0035, 0.0031)),
    ]  # fmt: skip
    report = EMPTY
    for one in sections:
        report = report.with_section(one)
    failed = Section(name="mpt-7b", status="failed", reason="RuntimeError: told | to fail")
    return report.with_section(failed)
