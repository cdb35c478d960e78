"""A response that iterates over a subscription ends at SIGTERM, and does not hold its server up."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import signal
import socket
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp
import pytest

if TYPE_CHECKING:
    from graphql_prod.testing import ScriptedServer

PROGRAMS = Path(__file__).parent / "programs"
COMMANDS = {
    "uvicorn": ["-m", "uvicorn", "sse:app", "--host", "127.0.0.1", "--port", "{port}"],
    "aiohttp": ["sse.py", "{port}"],
    "hypercorn": ["-m", "hypercorn", "--workers", "0", "sse:app", "--bind", "127.0.0.1:{port}"],
    "granian": ["-m", "granian", "--interface", "asgi", "--host", "127.0.0.1", "--port", "{port}", "sse:app"],
    "gunicorn": ["-m", "gunicorn", "-k", "uvicorn_worker.UvicornWorker", "-b", "127.0.0.1:{port}", "sse:app"],
}
NEEDS = {"gunicorn": "uvicorn_worker"}


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return int(bound.getsockname()[1])


@pytest.mark.parametrize("name", COMMANDS)
async def test_a_stream_in_a_response(counting: ScriptedServer, name: str) -> None:
    """Its last line comes, the server ends in time, and no setting of the server was needed."""
    if importlib.util.find_spec(NEEDS.get(name, name)) is None:
        pytest.skip(f"{NEEDS.get(name, name)} is not installed")
    port = free_port()
    command = [sys.executable, *(part.format(port=port) for part in COMMANDS[name])]
    running = await asyncio.create_subprocess_exec(
        *command,
        cwd=PROGRAMS,
        env={**os.environ, "UPSTREAM": counting.url},
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
            await _ready(session)
            async with session.get("/events") as response:
                for _ in range(5):
                    await response.content.readuntil(b"\n\n")
                began = time.monotonic()
                running.send_signal(signal.SIGTERM)
                rest = await asyncio.wait_for(response.read(), 15)
            assert rest.endswith(b"event: bye\n\n")
            await asyncio.wait_for(running.wait(), 15)
        assert time.monotonic() - began < 15
    finally:
        if running.returncode is None:
            running.kill()
            await running.wait()


async def _ready(session: aiohttp.ClientSession) -> None:
    async with asyncio.timeout(30):
        while True:
            try:
                async with session.get("/readyz") as response:
                    if response.status == 200:
                        return
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(0.05)
