"""Clients that share a quota, in simulated time: our own buckets against models of upstreams."""

from __future__ import annotations

import heapq
import itertools
import random
from collections import Counter
from dataclasses import dataclass, field
from math import ceil, floor, inf
from typing import TYPE_CHECKING, Protocol

from graphql_prod import Quota, Throttle
from graphql_prod.throttling.bucket import Bucket, Ticket

if TYPE_CHECKING:
    from collections.abc import Callable


class Upstream(Protocol):
    """A model of an upstream."""

    used: float

    def ask(self, now: float, cost: float) -> tuple[bool, Throttle | None]:
        """Judge a call."""

    def total(self, seconds: float) -> float:
        """What could be used in so much time."""


class Points:
    """A bucket of points that come back at a rate."""

    def __init__(self, capacity: float, rate: float) -> None:
        self.capacity, self.rate, self.there, self.at, self.used = capacity, rate, capacity, 0.0, 0.0

    def ask(self, now: float, cost: float) -> tuple[bool, Throttle | None]:
        self.there = min(self.capacity, self.there + self.rate * (now - self.at))
        self.at = now
        good = self.there >= cost
        if good:
            self.there -= cost
            self.used += cost
        quota = Quota(name="cost", limit=self.capacity, remaining=self.there, restore_rate=self.rate)
        wait = None if good else (cost - self.there) / self.rate
        return good, Throttle(refused=not good, wait=wait, quotas=(quota,), cost=cost)

    def total(self, seconds: float) -> float:
        return self.capacity + self.rate * seconds


class Window:
    """So much in each window, told in seconds as a server rounds them."""

    def __init__(self, limit: float, window: float, rounded: Callable[[float], float] = ceil) -> None:
        self.limit, self.window, self.rounded = limit, window, rounded
        self.began, self.left, self.used = 0.0, limit, 0.0

    def ask(self, now: float, cost: float) -> tuple[bool, Throttle | None]:
        if now >= self.began + self.window:
            self.began += self.window * ((now - self.began) // self.window)
            self.left = self.limit
        good = self.left >= cost
        if good:
            self.left -= cost
            self.used += cost
        seconds = float(self.rounded(self.began + self.window - now))
        quota = Quota(name="q", limit=self.limit, remaining=self.left, reset=seconds)
        return good, Throttle(refused=not good, wait=None if good else seconds, quotas=(quota,))

    def total(self, seconds: float) -> float:
        return self.limit * ceil(seconds / self.window)


class Silent:
    """A limit of any span of time that no answer tells of."""

    def __init__(self, limit: int, span: float, wait: float) -> None:
        self.limit, self.span, self.wait, self.used = limit, span, wait, 0.0
        self.log: list[float] = []

    def ask(self, now: float, cost: float) -> tuple[bool, Throttle | None]:
        self.log = [moment for moment in self.log if now - moment < self.span]
        if len(self.log) >= self.limit:
            return False, Throttle(wait=self.wait)
        self.log.append(now)
        self.used += 1
        return True, None

    def total(self, seconds: float) -> float:
        return self.limit * seconds / self.span


@dataclass
class Outcome:
    """What came of it.

    :ivar sent: when calls reached the upstream.
    :ivar refused: when it refused them.
    :ivar let_go: the numbers of the calls of each client, in the order in which they were let go first.
    """

    seconds: float
    sent: list[float] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)
    let_go: list[list[int]] = field(default_factory=list)

    @property
    def late(self) -> list[float]:
        """Refusals after the first second."""
        return [moment for moment in self.refused if moment > 1]

    @property
    def largest(self) -> float:
        """The calls of the fullest second, by those of the mean one."""
        seconds = Counter(int(moment) for moment in self.sent)
        return max(seconds.values()) * self.seconds / len(self.sent)


class Simulation:
    """Clients with tasks that call one after another."""

    def __init__(self, upstream: Upstream, costs: tuple[float, ...], seed: int, latency: float) -> None:
        self.upstream, self.costs, self.latency = upstream, costs, latency
        self.random = random.Random(seed)
        self.events: list[tuple[float, int, Callable[[float], None]]] = []
        self.numbers = itertools.count()
        self.buckets: list[Bucket] = []
        self.lines: list[list[tuple[str, int, float]]] = []
        self.looks: list[float] = []

    def run(self, seconds: float, clients: int = 1, tasks: int = 50) -> Outcome:
        """So many seconds of it."""
        self.outcome = Outcome(seconds)
        for client in range(clients):
            self.buckets.append(Bucket())
            self.lines.append([])
            self.looks.append(-1.0)
            self.outcome.let_go.append([])
            for _ in range(tasks):
                self._at(0.0, lambda now, client=client: self._call(now, client))  # type: ignore[misc]
        while self.events and self.events[0][0] < seconds:
            now, _, step = heapq.heappop(self.events)
            step(now)
        return self.outcome

    def _at(self, when: float, step: Callable[[float], None]) -> None:
        heapq.heappush(self.events, (when, next(self.numbers), step))

    def _call(self, now: float, client: int) -> None:
        kind = self.random.randrange(len(self.costs))
        self.lines[client].append((f"operation{kind}", next(self.numbers), self.costs[kind]))
        self._look(now, client)

    def _look(self, now: float, client: int) -> None:
        bucket, line = self.buckets[client], self.lines[client]
        while line:
            wait = bucket.wait(now, line[0][0])
            if wait > 1e-9:
                if wait < inf:
                    self.looks[client] = when = now + wait
                    self._at(when, lambda at: self._look_again(at, client))
                return
            call = line.pop(0)
            ticket = bucket.go(now, call[0])
            self.outcome.let_go[client].append(call[1])
            self._at(now + self._half(), lambda at, c=call, t=ticket: self._arrive(at, client, t, c))  # type: ignore[misc]

    def _look_again(self, now: float, client: int) -> None:
        if now == self.looks[client]:
            self._look(now, client)

    def _half(self) -> float:
        return self.latency * self.random.uniform(0.3, 0.7)

    def _arrive(self, now: float, client: int, ticket: Ticket, call: tuple[str, int, float]) -> None:
        good, told = self.upstream.ask(now, call[2])
        self.outcome.sent.append(now)
        if not good:
            self.outcome.refused.append(now)

        def answer(at: float) -> None:
            self.buckets[client].done(at, ticket, told)
            if good:
                self._call(at, client)
            else:
                self.lines[client].insert(0, call)
            self._look(at, client)

        self._at(now + self._half(), answer)


def simulated(
    upstream: Upstream,
    seconds: float = 60.0,
    *,
    clients: int = 1,
    tasks: int = 50,
    costs: tuple[float, ...] = (1.0,),
    seed: int = 1,
    latency: float = 0.05,
) -> Outcome:
    """So many seconds of it."""
    return Simulation(upstream, costs, seed, latency).run(seconds, clients, tasks)


def exactly(seconds: float) -> float:
    """A server that tells of fractions."""
    return seconds


ROUNDINGS: dict[str, Callable[[float], float]] = {"up": ceil, "down": floor, "exact": exactly}
