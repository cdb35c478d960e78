"""What telemetry adds to a call that succeeds at once: without an SDK, sampled out, and with all recorded.

OpenTelemetry's providers are set once in a process, so each mode has one of its own; within it the contenders
run in turn, round after round. The figure is the median over the rounds of CPU seconds a call.

    python -m benchmarks.telemetry [--calls 400] [--rounds 15] [--mode none sampled-out recorded]
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import statistics
import subprocess
import sys
import time
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import aiohttp
from opentelemetry import metrics, trace
from opentelemetry.instrumentation.aiohttp_client import create_trace_config
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON

from benchmarks.call import Contender, burst, query_of
from benchmarks.canned import canned_server
from graphql_prod import ProductionClient, ProductionConfig, TelemetryPolicy

if TYPE_CHECKING:
    from collections.abc import Sequence

MODES = ("none", "sampled-out", "recorded")
PLAIN = "switched off, on a given session"
CONTRIB = "switched off, contrib's HTTP spans on it"
FLOOR = "the same, a bare span and a duration by hand"
OFF = TelemetryPolicy(traces=False, metrics=False)


class Forget(SpanProcessor):
    """Takes spans and keeps none: exporting is not what is measured."""

    def on_end(self, span: ReadableSpan) -> None:
        """Nothing."""


def set_up(mode: str) -> None:
    """The SDK, or none."""
    if mode == "none":
        return
    provider = TracerProvider(sampler=ALWAYS_OFF if mode == "sampled-out" else ALWAYS_ON)
    provider.add_span_processor(Forget())
    trace.set_tracer_provider(provider)
    if mode == "recorded":
        metrics.set_meter_provider(MeterProvider([InMemoryMetricReader()]))


async def contenders(url: str, mode: str, stack: AsyncExitStack) -> dict[str, Contender]:
    """The same client, told about in different ways."""

    async def ours(policy: TelemetryPolicy, session: aiohttp.ClientSession | None = None) -> Contender:
        config = ProductionConfig(telemetry=policy)
        client = ProductionClient(url, validate=False, config=config, session=session)
        return query_of(await stack.enter_async_context(client))

    field = {"switched off": await ours(OFF), "as it comes": await ours(TelemetryPolicy())}
    if mode != "none":
        traced = await stack.enter_async_context(aiohttp.ClientSession(trace_configs=[create_trace_config()]))
        plain = await stack.enter_async_context(aiohttp.ClientSession())
        field |= {
            "without HTTP spans": await ours(TelemetryPolicy(http_spans=False)),
            PLAIN: await ours(OFF, plain),
            CONTRIB: await ours(OFF, traced),
            FLOOR: by_hand(await ours(OFF, traced)),
        }
    return field


def by_hand(call: Contender) -> Contender:
    """A call within a bare span of the SDK's, and one duration recorded: the least that tells of it."""
    attributes = {"graphql.operation.type": "query", "graphql.operation.name": "User"}
    tracer = trace.get_tracer("by hand")
    duration = metrics.get_meter("by hand").create_histogram("duration", unit="s")

    async def told() -> object:
        with tracer.start_as_current_span("query", attributes=attributes):
            begun = time.monotonic()
            answer = await call()
            duration.record(time.monotonic() - begun, attributes)
            return answer

    return told


async def measure(url: str, mode: str, calls: int, rounds: int) -> dict[str, float]:
    """The median CPU seconds a call, by contender."""
    async with AsyncExitStack() as stack:
        field = await contenders(url, mode, stack)
        figures: dict[str, list[float]] = {name: [] for name in field}
        for call in field.values():
            await burst(call, calls // 4, 1)
        for _ in range(rounds):
            for name, call in field.items():
                figures[name].append(await burst(call, calls, 1))
    return {name: statistics.median(values) for name, values in figures.items()}


def show(mode: str, figures: dict[str, float]) -> None:
    """A table of ratios to the client with telemetry switched off."""
    base = figures["switched off"]
    print(f"\n{mode}")
    for name, figure in figures.items():
        print(f"  {name:45} {figure * 1e6:8.0f} µs   {figure / base:5.2f} x switched off")
    if PLAIN in figures:
        ours = figures["as it comes"] - base
        contrib, floor = (figures[name] - figures[PLAIN] for name in (CONTRIB, FLOOR))
        print(f"  added: {ours * 1e6:.0f} µs; contrib's HTTP spans alone: {contrib * 1e6:.0f} µs, ", end="")
        print(f"with a bare span and a duration by hand: {floor * 1e6:.0f} µs")


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print; each mode in a process of its own."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--calls", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--mode", nargs="+", choices=MODES, default=MODES)
    chosen = parser.parse_args(arguments)
    if len(chosen.mode) > 1:
        for mode in chosen.mode:
            numbers = ["--calls", str(chosen.calls), "--rounds", str(chosen.rounds)]
            subprocess.run(
                [sys.executable, "-m", "benchmarks.telemetry", *numbers, "--mode", mode], check=True
            )
        return
    logging.disable()
    [mode] = chosen.mode
    set_up(mode)
    with canned_server() as url:
        show(mode, asyncio.run(measure(url, mode, chosen.calls, chosen.rounds)))


if __name__ == "__main__":
    main()
