"""A client in a process of its own, which makes one call after another and tells what each took.

Reads a line of JSON a call, and writes one: what came of it, by how many MiB memory had grown at its peak,
seconds, and the longest time that the event loop stood still.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import time
from pathlib import Path
from typing import Any

from raw_http import client_of

from graphql_prod import CallError, ProductionConfig

STATUS, REFERENCES = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def memory(kind: str) -> float:
    """MiB that this process has (VmRSS), or had at its peak (VmHWM)."""
    [line] = [line for line in STATUS.read_text().splitlines() if line.startswith(kind)]
    return int(line.split()[1]) / 1024


def forget_the_peak() -> None:
    REFERENCES.write_text("5")


async def heartbeat(gaps: list[float]) -> None:
    last = time.monotonic()
    while True:
        await asyncio.sleep(0.005)
        now = time.monotonic()
        gaps.append(now - last)
        last = now


def size_of(value: object) -> int:
    return len(value) if isinstance(value, str | list | dict) else 1


async def call(job: dict[str, Any]) -> dict[str, Any]:
    config = ProductionConfig(**{"retry": {"attempts": 1}, **job.get("config", {})})
    gaps = [0.0]
    beats = asyncio.create_task(heartbeat(gaps))
    told: dict[str, Any] = {}
    async with client_of(
        job["kind"], job["url"], config=config, headers=job.get("headers"), timeout=job.get("timeout", 30)
    ) as client:
        forget_the_peak()
        before, started = memory("VmRSS"), time.monotonic()
        try:
            answer = await client.query("query Look { hello }")
        except Exception as error:  # noqa: BLE001 -- the test judges it
            told |= {"error": type(error).__name__, "text": str(error), "ours": isinstance(error, CallError)}
        else:
            told |= {"size": size_of(answer.data.get("hello")), "errors": len(answer.errors)}
            del answer
        told |= {"seconds": time.monotonic() - started, "grown": memory("VmHWM") - before}
        await asyncio.sleep(0.01)
    beats.cancel()
    return {**told, "pause": max(gaps)}


def main() -> None:
    logging.disable(logging.CRITICAL)
    for line in sys.stdin:
        sys.stdout.write(json.dumps(asyncio.run(call(json.loads(line)))) + "\n")
        sys.stdout.flush()


main()
