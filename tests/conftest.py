"""What every test gets: a server on loopback, both backends, and a check that nothing was left behind."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
from typing import TYPE_CHECKING, Literal

import hypothesis
import pytest
from subscribing import PROTOCOLS

from graphql_prod.testing import ScriptedServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from subscribing import Mode, Protocol

Backend = Literal["aiohttp", "httpx"]

# Properties: the same examples in every run. HYPOTHESIS_PROFILE=search looks for others, and for long.
_TRY = (hypothesis.Phase.explicit, hypothesis.Phase.generate)
_SUITE = hypothesis.settings(
    derandomize=True, database=None, deadline=None, max_examples=75, phases=(*_TRY, hypothesis.Phase.shrink)
)
hypothesis.settings.register_profile("suite", _SUITE)
hypothesis.settings.register_profile("mutants", _SUITE, max_examples=40, phases=_TRY)
hypothesis.settings.register_profile("search", database=None, deadline=None, max_examples=2000)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "suite"))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """A quarter of the suite's time is waiting: three workers keep two cores busy."""
    return max(2, len(os.sched_getaffinity(0)) * 3 // 2)


def pytest_collection_finish() -> None:
    """What is imported by now stays: collecting around each test looks at that test's own objects."""
    gc.collect()
    gc.freeze()


@pytest.fixture(params=["aiohttp", "httpx"])
def backend(request: pytest.FixtureRequest) -> Backend:
    """Each test that asks for it runs once a backend."""
    return request.param  # type: ignore[no-any-return]


@pytest.fixture(params=["owned", "given"])
def owner(request: pytest.FixtureRequest) -> Literal["owned", "given"]:
    """Each test that asks for it runs with a session of ours, and with one of the caller's."""
    return request.param  # type: ignore[no-any-return]


@pytest.fixture(autouse=True)
async def nothing_left_behind() -> AsyncIterator[None]:
    """No test leaves a task or a file descriptor behind."""
    tasks, descriptors = asyncio.all_tasks(), _descriptors()
    yield
    for _ in range(200):
        gc.collect()
        left = asyncio.all_tasks() - tasks - {asyncio.current_task()}
        opened = _descriptors() - descriptors
        if not left and not opened:
            return
        await asyncio.sleep(0.01)  # closing a socket takes the loop a few rounds
    pytest.fail(f"left behind: tasks {left}, descriptors {sorted(opened)}")


def _descriptors() -> set[str]:
    """Sockets and pipes that are open; not the standard streams, which pytest exchanges as it likes."""
    found = set()
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # the descriptor of the listing itself
            target = os.readlink(f"/proc/self/fd/{name}")
            if int(name) > 2 and target.startswith(("socket", "pipe")):
                found.add(f"{name} -> {target}")
    return found


@pytest.fixture
async def server() -> AsyncIterator[ScriptedServer]:
    """A GraphQL server that does as it is told."""
    async with ScriptedServer() as running:
        yield running


@pytest.fixture
async def counting(server: ScriptedServer) -> ScriptedServer:
    """The server, counting fast but without drowning anybody."""
    server.tick = 0.002
    return server


@pytest.fixture(params=PROTOCOLS)
def protocol(request: pytest.FixtureRequest) -> Protocol:
    """Each test that asks for it runs once a WebSocket protocol."""
    return request.param  # type: ignore[no-any-return]


@pytest.fixture(params=["subscribe", "stream"])
def mode(request: pytest.FixtureRequest) -> Mode:
    """Each test that asks for it runs with callbacks, and as a stream."""
    return request.param  # type: ignore[no-any-return]
