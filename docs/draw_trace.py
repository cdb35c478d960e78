"""Draws docs/trace.svg: the trace of examples/telemetry.py as a waterfall, from spans that it really makes.

python docs/draw_trace.py
"""

from __future__ import annotations

import asyncio
import random
import runpy
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from graphql_prod.testing import ScriptedServer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from opentelemetry.sdk.trace import ReadableSpan

HERE = Path(__file__).parent
EXAMPLE = HERE.parent / "examples" / "telemetry.py"

WIDTH, LABELS, ROW, TOP, INDENT = 960, 270, 30, 40, 16
SEED = 5  # of the waits' jitter: long enough to be seen
# The ground and the texts take the reader's scheme; the bars can be read on both.
STYLE = """
text { font: 13px ui-sans-serif, system-ui, sans-serif; fill: #1f2328 }
.page { fill: #ffffff }
.small { font-size: 11px; fill: #59636e }
.grid { stroke: #d1d9e0 }
.call { fill: #3b7dd8 } .http { fill: #6fb1a0 } .other { fill: #8c959f } .failed { fill: #d1624f }
.event { fill: #e3a008; stroke: #1f2328; stroke-width: .5 }
@media (prefers-color-scheme: dark) {
  .page { fill: #0d1117 } .grid { stroke: #3d444d } .event { stroke: #e6edf3 }
  text { fill: #e6edf3 } .small { fill: #9198a1 }
}
"""
NOTES = {
    "retry": "retry: {reason}, again in {wait:.3f} s",
    "gap": "gap: closed with {close_code}, down for {down_for:.3f} s",
}


async def work() -> tuple[ReadableSpan, ...]:
    """The spans of the example, below one of the program's own."""
    spans, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    trace.set_tracer_provider(provider)
    program = runpy.run_path(str(EXAMPLE))["work"]
    for _ in range(2):  # what is imported at the first call is no part of the picture
        spans.clear()
        random.seed(SEED)
        async with ScriptedServer() as server:
            with trace.get_tracer("shop").start_as_current_span("order"):
                await program(server)
    return spans.get_finished_spans()


def rows(spans: list[ReadableSpan], parent: int | None, depth: int) -> Iterator[tuple[int, ReadableSpan]]:
    """The spans in the order of the tree, each with its depth."""
    for span in spans:
        if (span.parent and span.parent.span_id) == parent:
            yield depth, span
            yield from rows(spans, span.context.span_id, depth + 1)


def label(span: ReadableSpan) -> tuple[str, str]:
    """What stands at the left of a row, and its class."""
    facts = span.attributes or {}
    status = facts.get("http.status_code", facts.get("http.response.status_code"))
    if "http.method" in facts or "http.request.method" in facts:
        resent = facts.get("http.request.resend_count")
        text = f"{span.name} {status or 'given up'}" + (f", resend_count {resent}" if resent else "")
        return text, "http" if status == 200 else "failed"
    name = facts.get("graphql.operation.name", "")
    error = facts.get("error.type")
    kind = "failed" if error else "call" if "graphql.operation.type" in facts else "other"
    return f"{span.name} {name}".strip() + (f": {error}" if error else ""), kind


def picture(spans: list[ReadableSpan]) -> str:
    """The waterfall."""
    tree = list(rows(spans, None, 0))
    begin = min(span.start_time or 0 for span in spans)
    length = max(span.end_time or 0 for span in spans) - begin
    height = TOP + ROW * len(tree) + 8

    def x(moment: int | None) -> float:
        return LABELS + ((moment or begin) - begin) / length * (WIDTH - LABELS - 16)

    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img">',
        "<title>One trace: a call that was repeated, a mutation, a timeout, a subscription</title>",
        f"<style>{STYLE}</style>",
        f'<rect class="page" width="{WIDTH}" height="{height}" rx="8"/>',
    ]
    for tick in range(0, length // 1_000_000 + 1, 50):
        at = x(begin + tick * 1_000_000)
        out.append(f'<line class="grid" x1="{at:.1f}" x2="{at:.1f}" y1="26" y2="{height - 8}"/>')
        out.append(f'<text class="small" x="{at:.1f}" y="18" text-anchor="middle">{tick} ms</text>')
    for number, (depth, span) in enumerate(tree):
        y = TOP + ROW * number
        text, kind = label(span)
        left, right = x(span.start_time), x(span.end_time)
        bar = f'x="{left:.1f}" y="{y + 3}" width="{max(right - left, 2):.1f}" height="14" rx="2"'
        out.append(f'<text x="{12 + depth * INDENT}" y="{y + 14}">{escape(text)}</text>')
        out.append(f'<rect class="{kind}" {bar}/>')
        where = f'x="{right + 10:.1f}" text-anchor="start"'
        if right > WIDTH - 300:
            where = f'x="{left - 10:.1f}" text-anchor="end"'
        for event in span.events:
            if event.name in NOTES:
                note = escape(NOTES[event.name].format(**(event.attributes or {})))
                out.append(f'<circle class="event" cx="{x(event.timestamp):.1f}" cy="{y + 10}" r="5"/>')
                out.append(f'<text class="small" y="{y + 14}" {where}>{note}</text>')
    return "\n".join([*out, "</svg>", ""])


if __name__ == "__main__":
    made = sorted(asyncio.run(work()), key=lambda span: span.start_time or 0)
    (HERE / "trace.svg").write_text(picture(made), encoding="utf-8")
