"""Books of the chaos test: what was found, what was sent, and what came of it."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from subscribing import onward, value_of

from graphql_prod import (
    SubscriptionGap,
)
from graphql_prod.testing import Answer, ScriptedServer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from random import Random

    from aiographql.client import GraphQLSubscriptionEvent
    from chaos_endings import Endings


KEY = "Idempotency-Key"
ECHO = "query Echo($value: String) { echo(value: $value) }"
ADD = "mutation Add { increment }"
LATE = 0.25
"""Seconds by which a call may outlive its deadline, on a loop that is in time."""
STALL = 0.03
"""Seconds of lateness that are no more the busy loop's usual ones."""
HANGS = 5.0
"""Seconds beyond its deadline after which a call is given up, and that is a finding."""
REST = 30.0
"""Seconds of fair weather in which everything that was begun comes to its end."""
SETTLED = 10.0
"""Seconds after the end of a mutation until nothing of it can be on its way any more."""
STRAY = b"""HTTP/1.1 200 OK\r
Content-Type: application/json\r
Content-Length: 43\r
\r
{"data": {"echo": "stray", "increment": 0}}"""
"""An answer to nothing."""
EXPIRED = 4401
"""With what a socket ends whose token has expired."""
PING, PONG = 0.3, 0.5
"""Seconds until a silent server is pinged, and until it is given up."""
LARGE = 40_000
"""Characters of a large event: over the slow link it takes longer than PING and PONG."""
IDLE = 3.0
"""Seconds without an event until a subscription is begun anew."""
TICK = 0.01
"""Seconds between two events."""
SLOW_LINK = 1_000, 0.03
"""So many bytes, and the pause in seconds after them."""


class Findings:
    """What must not be; the first of them ends the run."""

    def __init__(self) -> None:
        self.list: list[str] = []
        self.first = asyncio.Event()

    def add(self, text: str) -> None:
        if len(self.list) < 20:
            self.list.append(text)
        self.first.set()

    def check(self, true: object, text: str) -> None:
        if not true:
            self.add(text)


class Lag:
    """By how much the loop itself is late: no client can be held to that."""

    def __init__(self) -> None:
        self.worst = 0.0
        self._loop = asyncio.get_running_loop()
        self._late: deque[tuple[float, float]] = deque(maxlen=10_000)
        self._due = self._loop.time()

    async def watch(self) -> None:
        while True:
            self._due = self._loop.time() + 0.005
            await asyncio.sleep(0.005)
            now = self._loop.time()
            self.worst = max(self.worst, now - self._due)
            self._late.append((now, now - self._due))
            self._due = now

    def since(self, moment: float) -> float:
        """Seconds for which the loop stood still, all together, since a moment on its clock."""
        # Who asks may have been woken in the same turn as the watch, and before it.
        total = max(0.0, self._loop.time() - max(self._due, moment))
        for at, late in reversed(self._late):
            if at < moment:
                break
            if late > STALL:
                total += min(late, at - moment)
        return total


class Ledger:
    """The numbers of one subscription, which has to say whenever one is missing or comes again."""

    def __init__(
        self, findings: Findings, name: str, endings: Endings, *, resumed: bool, drops: bool
    ) -> None:
        self.last = -1
        self.over = False
        self._findings = findings
        self._name = name
        self._resumed = resumed
        self._drops = drops
        self._gap = False
        self._dropped = 0
        self._resumed_at: deque[int] = deque()
        self._endings = endings
        self._id: str | None = None

    def resume(self, last: GraphQLSubscriptionEvent | None, variables: dict[str, Any]) -> dict[str, Any]:
        """Where it goes on over a new connection; no event of that may come before its gap."""
        asked = onward(last, variables)
        self._resumed_at.append(asked["from"])
        return asked

    def take(self, item: GraphQLSubscriptionEvent | SubscriptionGap) -> None:
        """In the order in which they come."""
        self._findings.check(not self.over, f"{self._name}: {item} came after the end")
        if isinstance(item, SubscriptionGap):
            self._gap = True
            self._dropped += item.dropped
            if item.attempts and self._id:
                self._endings.connected_again(self._id)
            self._findings.check(
                self._drops or not item.dropped, f"{self._name}: events were dropped: {item}"
            )
            return
        value, wanted = value_of(item), self.last + 1 + self._dropped
        begun_again = self._gap and not self._resumed and value == 0
        told = f"{' after a gap' if self._gap else ''}, {self._dropped} dropped"
        self._findings.check(
            value == wanted or begun_again, f"{self._name}: {value} came after {self.last}{told}"
        )
        while self._resumed_at and self._resumed_at[0] <= value:
            at = self._resumed_at.popleft()
            self._findings.check(self._gap, f"{self._name}: nothing told the gap before {at}")
        known, self._id = self._id, item.subscription_id
        if self._gap and not known:  # nobody knew whose that gap was
            self._endings.connected_again(self._id)
        self.last, self._gap, self._dropped = value, False, 0
        self._endings.event(self._id, value, self._name)

    def broken(self, error: object) -> None:
        """The server has ended it with an error."""
        self.over = True
        self._endings.told(self._id, self.last, error, self._name)

    def complete(self, to: int) -> None:
        """The server has said that this was all."""
        self._findings.check(self.last == to, f"{self._name}: ended in order after {self.last}, not {to}")
        self._endings.completed(self._id)


@dataclass
class Mutation:
    """One that was sent, perhaps."""

    keyed: bool
    ended: float | None = None
    answer: int | None = None
    """What the counter was after it, if it was answered without errors; 0 if the answer does not say."""
    unsent: bool = False
    """The client says that it cannot have been executed."""
    arrivals: int = 0
    keys: set[str] = field(default_factory=set)


class Mutations:
    """Every mutation has a number; the server's books are held against the client's."""

    def __init__(self, findings: Findings, name: str) -> None:
        self._findings = findings
        self._name = name
        self._open: dict[int, Mutation] = {}
        self._answers: deque[int] = deque(maxlen=5_000)
        self._next = 0

    def begin(self, *, keyed: bool) -> tuple[int, Mutation]:
        self._next += 1
        made = self._open[self._next] = Mutation(keyed)
        return self._next, made

    def arrived(self, server: ScriptedServer, turned_away: set[int]) -> None:
        """Read the server's book, and begin a new one.

        :param turned_away: which requests it refused unread, for their token; they may come again.
        """
        for request in server.requests:
            number = (request.extensions or {}).get("number")
            if number is None or id(request) in turned_away:
                continue
            made = self._open.get(number)
            if made is None:
                self._findings.add(f"{self._name}: mutation {number} arrived long after its end")
                continue
            made.arrivals += 1
            made.keys.add(request.headers.get(KEY, ""))
        server.requests.clear()
        turned_away.clear()

    def settle(self, now: float) -> None:
        """Judge those that ended long enough ago."""
        for number, made in list(self._open.items()):
            if made.ended is not None and made.ended < now:
                del self._open[number]
                self._judge(f"{self._name}: mutation {number}", made)

    def _judge(self, name: str, made: Mutation) -> None:
        check = self._findings.check
        check(made.keyed or made.arrivals <= 1, f"{name} arrived {made.arrivals} times")
        if made.answer is not None:
            # The counter never stands twice at a number: each answer belongs to one execution.
            check(made.arrivals, f"{name} succeeded and never arrived")
            check(made.answer, f"{name} succeeded, and nothing says that it was executed")
            check(made.answer not in self._answers, f"{name} was given the answer {made.answer} of another")
            self._answers.append(made.answer)
        check(not (made.unsent and made.arrivals), f"{name} arrived, and its error says it was never sent")
        if made.keyed and made.arrivals:
            check(len(made.keys) == 1 and "" not in made.keys, f"{name} came with {len(made.keys)} keys")


async def listening(start: Callable[[], Awaitable[None]]) -> None:
    """Listen on a port that was ours; for a moment a child that was just forked has it too."""
    async with asyncio.timeout(REST):
        while True:
            try:
                return await start()
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
            await asyncio.sleep(0.01)


def give_up_ports() -> None:
    """In a child: the ports that its parent listens on are the parent's alone."""
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # none of a socket
            with socket.socket(fileno=os.dup(int(name))) as copy:
                listens = copy.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
            if listens:
                os.close(int(name))


def bad_answer(chance: Random) -> Answer:
    """One of the ways in which a server fails, the operation executed or not."""
    executes = chance.random() < 0.5
    return chance.choice(
        [
            Answer.page(chance.choice([429, 500, 502, 503, 504]), execute=executes),
            Answer.graphql(503, errors=["busy"], execute=executes),
            Answer.login_page(execute=executes),
            Answer.redirect("http://127.0.0.1:9/", execute=executes),
            Answer.reset("before", execute=executes),
            Answer.reset("headers", execute=executes),
            Answer.reset("body", execute=executes),
            Answer.disconnect(execute=executes),
            Answer.truncated(execute=executes),
            Answer.garbage(execute=executes),
            Answer.hang(execute=executes),
            Answer.drip(chunk=8, pause=0.005),
            Answer(delay=chance.uniform(0, 1)),
            Answer(headers={"Connection": "close"}),
        ]
    )
