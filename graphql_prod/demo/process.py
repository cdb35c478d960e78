"""The program that gets SIGTERM, seen from outside."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from graphql_prod.sessions.policy import Backend

Cast = Literal["graphql_prod", "stock"]
"""Which client is shown."""

COMMAND = (sys.executable, "-m", "graphql_prod.demo.program")

BEGUN = 4


class Work:
    """What came of a program's work.

    :ivar calls: how many calls it made.
    :ivar sent: how many events it was sent.
    :ivar status: how it exited: the negative number of a signal that killed it; None while it runs.
    :ivar report: what it said of its shutdown; "" for nothing.
    """

    def __init__(self, calls: int) -> None:
        self.calls = calls
        self.answered: int = 0
        self.sent = 0
        self.numbers: list[int] = []
        self.status: int | None = None
        self.report: str = ""
        self.begun: asyncio.Event = asyncio.Event()
        """Set when it has done the first events."""

    @property
    def whole(self) -> bool:
        """Whether every call was answered, and every event worked on once, and in order."""
        return self.answered == self.calls and self.numbers == list(range(self.sent))

    def take(self, line: str) -> None:
        """Count what the program printed."""
        match line.rstrip().partition(" "):
            case "answered", _, _:
                self.answered += 1
            case "event", _, number:
                self.numbers.append(int(number))
                if len(self.numbers) >= BEGUN:
                    self.begun.set()
            case "report", _, report:
                self.report = report


class Program:
    """A process that waits until it is told to begin."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @property
    def pid(self) -> int:
        """Its number."""
        return self._process.pid

    async def run(self, url: str, work: Work) -> None:
        """Have it work with the server; until its end, which is noted as well."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None  # noqa: S101 -- they are pipes
        assert stdout is not None  # noqa: S101
        stdin.write(f"{url}\n".encode())
        async for line in stdout:
            work.take(line.decode())
        work.status = await self._process.wait()

    def terminate(self) -> None:
        """Send it SIGTERM, unless it has ended."""
        if self._process.returncode is None:
            self._process.send_signal(signal.SIGTERM)


@contextlib.asynccontextmanager
async def waiting(cast: Cast, backend: Backend) -> AsyncIterator[Program]:
    """A program that makes itself ready meanwhile, which takes a second; it is killed at the end."""
    process = await asyncio.create_subprocess_exec(
        *COMMAND,
        cast,
        backend,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        start_new_session=True,  # Ctrl-C is for the demo, which ends it then
    )
    try:
        yield Program(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()
