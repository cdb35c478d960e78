"""The promises hold in bad weather: a minute of it in the suite, an hour with ``make soak``."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections import Counter
from typing import TYPE_CHECKING

import pytest
from chaos import Ground, World, in_background
from chaos_books import Findings, Lag

if TYPE_CHECKING:
    from collections.abc import Iterator

# Less the time that coming to rest takes, a minute.
SECONDS = float(os.environ.get("SOAK_SECONDS", "50"))
SEED = int(os.environ.get("SOAK_SEED", "8"))
# For a run of any length: what stays is of a size, what leaks is not.
MEMORY, TASKS, DESCRIPTORS = 40.0, 60.0, 60.0
# What has to have happened, or nothing was proven.
HAPPENS = (
    "children",
    "clean shutdowns",
    "downs",
    "dropped",
    "errors sent",
    "errors told",
    "events",
    "gaps",
    "given up",
    "large events",
    "mutation answered",
    "mutation failed",
    "moves",
    "payloads",
    "query answered",
    "query failed",
    "ready: False",
    "ready: True",
    "reconnects",
    "renewals",
    "retries",
    "shutdowns cut short",
    "steered",
    "stale tokens",
    "streams ended",
    "subscriptions ended",
)


@pytest.fixture
def quiet() -> Iterator[None]:
    """pytest keeps every log record of a test: an hour's would look like a leak."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.timeout(SECONDS + 120)
@pytest.mark.usefixtures("quiet")
async def test_promises_hold_in_bad_weather() -> None:
    """No mutation twice, no event missing or twice untold, no deadline outlived, nothing kept or growing."""
    findings, lag, ground = Findings(), Lag(), Ground()
    at_rest = asyncio.Barrier(2)
    worlds = [World(SEED, backend, findings, lag, at_rest) for backend in ("aiohttp", "httpx")]
    async with in_background(lag.watch(), ground.watch(min(1.0, SECONDS / 50))):
        await asyncio.gather(*(world.run(SECONDS) for world in worlds))
    done = sum((world.done for world in worlds), Counter[str]())
    replay = f"replay with SOAK_SEED={SEED} SOAK_SECONDS={SECONDS:g} make soak"
    growth = ground.growth()
    sys.stdout.write(f"\n{replay}\nthe loop's worst lag: {lag.worst:.3f} s\n")
    sys.stdout.write("growth in MB, tasks, descriptors: {:.1f}, {:g}, {:g}\n".format(*growth))
    sys.stdout.writelines(f"{count:8} {what}\n" for what, count in sorted(done.items()))
    assert findings.list == [], replay
    for grown, bound in zip(growth, (MEMORY, TASKS, DESCRIPTORS), strict=True):
        assert grown < bound, replay
    assert [what for what in HAPPENS if not done[what]] == [], replay
