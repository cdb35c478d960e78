"""What the policies do to an upstream when a whole fleet has them, in simulated time.

python -m benchmarks.fleet [--replicas 1 100 10000] [--seed 1] [--plot FOLDER] [--long]

An upstream of a given capacity serves replicas that run our own code: the retry table, its waits, the retry
budget, admission, and the waits of reconnects. Time is simulated, so the seed replays and the machine does
not matter. Beside them stand a client with the production guide's recipe (four attempts, tenacity's
exponential wait), one that waits a fixed second, the retry budget as it was before (ten retries a second for
each client), and ours with each protection off.

The load of all replicas together is the same for each number of them: with one replica a busy client is seen,
with ten thousand a fleet of quiet ones.
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import logging
import random
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tenacity

from graphql_prod import AdmissionPolicy, RetryBudget, RetryPolicy, SubscriptionPolicy, clock
from graphql_prod.admission.admission import Admission
from graphql_prod.documents import Operation
from graphql_prod.resilience.retry.backoff import Backoff
from graphql_prod.resilience.retry.budget import Budget
from graphql_prod.resilience.retry.decision import AttemptOutcome, SendStatus, should_retry
from graphql_prod.subscriptions.backoff import ReconnectBackoff

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

HEADROOM = 1.5
"""Calls that the upstream answers, for each one that is offered; more than that fail."""
LEAST, QUIET = 100.0, 0.1
"""Calls a second that all replicas offer together at least, and that each of them does."""
TOTAL = 30.0
"""Seconds that a call may take, waits included."""
AWAY = (0.0, 1.0, 3.0, 10.0, 30.0, 60.0, 600.0)
WIDTHS = (9, 9, 9, 8, 14, 15)
WARM = 20.0
"""Seconds before the trouble begins."""
AFTER = 60.0
"""Seconds that are watched after it."""


@dataclass(frozen=True)
class Kind:
    """A kind of client."""

    name: str
    attempts: int = 4
    wait: tenacity.wait.wait_base | None = None
    """None: full jitter, as ours waits."""
    budget: RetryBudget | None = None
    admission: AdmissionPolicy | None = None


OURS = RetryBudget()
KINDS = (
    Kind("ours", budget=OURS),
    Kind("ours + admission", budget=OURS, admission=AdmissionPolicy(mode="adaptive")),
    Kind("no budget"),
    Kind("old floor", budget=RetryBudget(reserve=0, min_per_second=10)),
    Kind("the guide's recipe", wait=tenacity.wait_exponential(multiplier=0.5, max=8)),
    Kind("fixed second", wait=tenacity.wait_fixed(1)),
)


@dataclass(frozen=True)
class Trouble:
    """What happens to the upstream.

    :ivar capacity: what it answers in the meantime, as a share of the load.
    :ivar lost: the share of calls that fail whatever the capacity.
    """

    name: str
    seconds: float
    capacity: float = HEADROOM
    lost: float = 0.0


TROUBLES = (
    Trouble("outage of 60 s", 60, capacity=0.0),
    Trouble("brown-out at 50 %", 60, capacity=0.5),
    Trouble("restart of 3 s", 3, capacity=0.0),
    Trouble("rolling deploy", 60, lost=0.1),
)
LONG = Trouble("outage of 600 s", 600, capacity=0.0)


class Hand(clock.Clock):
    """Simulated time."""

    now = 1000.0

    def monotonic(self) -> float:
        return self.now


class Upstream:
    """Answers so many calls a second; a call too many, or in an outage, fails at once."""

    def __init__(self, trouble: Trouble, load: float, dice: random.Random) -> None:
        self.trouble = trouble
        self.load = load
        self._dice = dice
        self.received: Counter[int] = Counter()
        self.answered: Counter[int] = Counter()
        self._second = -1
        self._left = 0.0

    def ask(self, now: float) -> bool:
        """One call; whether it is answered."""
        second = int(now)
        if second != self._second:
            self._second, self._left = second, self._capacity(second)
        self.received[second] += 1
        if self._left < 1 or (self._is_ill(second) and self._dice.random() < self.trouble.lost):
            return False
        self._left -= 1
        self.answered[second] += 1
        return True

    def _is_ill(self, second: int) -> bool:
        return 1000.0 + WARM <= second < 1000.0 + WARM + self.trouble.seconds

    def _capacity(self, second: int) -> float:
        return self.load * (self.trouble.capacity if self._is_ill(second) else HEADROOM)


class Replica:
    """One client, with our own code."""

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        policy = RetryPolicy(attempts=kind.attempts)
        self.backoff = Backoff.of(policy)
        self.wait = kind.wait or self.backoff.retrying.wait
        self.budget = None if kind.budget is None else Budget(kind.budget)
        self.admission = Admission(kind.admission, "upstream", None) if kind.admission else None


@dataclass
class Course:
    """What came of it, second by second."""

    kind: Kind
    trouble: Trouble
    replicas: int
    load: float
    offered: Counter[int] = field(default_factory=Counter)
    received: Counter[int] = field(default_factory=Counter)
    calls: int = 0
    """Calls in the trouble."""
    attempts: int = 0
    """Attempts in the trouble."""
    good_after: float | None = None
    """Seconds after the trouble until all calls of a second went well."""

    @property
    def amplification(self) -> float:
        """Attempts for each call, in the trouble."""
        return self.attempts / max(1, self.calls)

    @property
    def worst_after(self) -> float:
        """The fullest second after the trouble, by what was offered then, or is on average."""
        end = int(1000 + WARM + self.trouble.seconds)
        return max(
            self.received[second] / max(self.load, self.offered[second])
            for second in range(end, end + int(AFTER))
        )


class Fleet:
    """All replicas, one upstream, and one line of events."""

    def __init__(self, kind: Kind, trouble: Trouble, replicas: int, seed: int) -> None:
        self.random = random.Random(seed)
        self.load = max(LEAST, QUIET * replicas)
        self.course = Course(kind, trouble, replicas, self.load)
        self.upstream = Upstream(trouble, self.load, random.Random(seed + 1))
        self.hand = Hand()
        self.events: list[tuple[float, int, Callable[[float], None]]] = []
        self.numbers = itertools.count()
        self.good: Counter[int] = Counter()
        self.bad: Counter[int] = Counter()

    def run(self) -> Course:
        """From the warm-up to the end."""
        random.seed(self.random.random())  # what tenacity and admission draw from
        course, trouble = self.course, self.course.trouble
        end = 1000.0 + WARM + trouble.seconds + AFTER
        with clock.using(self.hand):
            fleet = [Replica(course.kind) for _ in range(course.replicas)]
            moment = 1000.0
            while moment < end:
                moment += self.random.expovariate(self.load)
                replica = fleet[self.random.randrange(course.replicas)]
                self._at(moment, lambda now, r=replica: self._begin(now, r))  # type: ignore[misc]
            while self.events and self.events[0][0] < end:
                self.hand.now, _, step = heapq.heappop(self.events)
                step(self.hand.now)
        course.received = self.upstream.received
        over = int(1000 + WARM + trouble.seconds)
        for second in range(over, int(end) - 5):
            if not any(self.bad[each] for each in range(second, second + 5)):
                course.good_after = second - over
                break
        return course

    def _at(self, when: float, step: Callable[[float], None]) -> None:
        heapq.heappush(self.events, (when, next(self.numbers), step))

    def _begin(self, now: float, replica: Replica) -> None:
        self.course.offered[int(now)] += 1
        if self._in_trouble(now):
            self.course.calls += 1
        self._attempt(now, replica, now, 1, None)

    def _in_trouble(self, now: float) -> bool:
        return 1000 + WARM <= now < 1000 + WARM + self.course.trouble.seconds

    def _attempt(
        self, now: float, replica: Replica, began: float, number: int, state: tenacity.RetryCallState | None
    ) -> None:
        admission = replica.admission
        if admission is not None:
            if not admission.admits():
                self.bad[int(began)] += 1
                return
            admission.sent()
        if self._in_trouble(now):
            self.course.attempts += 1
        if self.upstream.ask(now):
            if admission is not None:
                admission.succeeded()
            if replica.budget is not None:
                replica.budget.deposit(began)
            self.good[int(began)] += 1
            return
        if admission is not None:
            admission.failed(first=number == 1)
        outcome = AttemptOutcome(SendStatus.ANSWERED, "503", 503)
        state = state or replica.backoff.state(began)
        state.set_result(None)
        wait = float(replica.wait(state))
        last = number >= replica.kind.attempts or wait >= TOTAL - (now - began)
        if last or not should_retry(outcome, Operation.QUERY, replica.backoff.policy):
            self.bad[int(began)] += 1
            return
        if replica.budget is not None and not replica.budget.withdraw():
            self.bad[int(began)] += 1
            return
        state.attempt_number += 1
        self._at(now + wait, lambda at: self._attempt(at, replica, began, number + 1, state))


@dataclass
class Sockets:
    """Subscriptions that were all cut at once."""

    cut: int
    largest: float
    """The reconnects of the fullest second, as a share of all."""
    back: float
    """Seconds until the last one is back."""


def cut(sockets: int, seed: int, down: float, policy: SubscriptionPolicy) -> Sockets:
    """All sockets are cut, and the upstream is away for so long."""
    random.seed(seed)
    hand, seen, events = Hand(), Counter[int](), list[tuple[float, int]]()
    with clock.using(hand):
        waits = [ReconnectBackoff(policy) for _ in range(sockets)]
        for number, backoff in enumerate(waits):
            heapq.heappush(events, (hand.now + backoff.wait(0.0, None), number))
        last = hand.now
        while events:
            now, number = heapq.heappop(events)
            hand.now = max(hand.now, now)
            backoff = waits[number]
            backoff.began()
            if now < 1000 + down:
                heapq.heappush(events, (now + backoff.wait(0.0, None), number))
                continue
            seen[int(now)] += 1
            last = max(last, now)
    return Sockets(sockets, max(seen.values()) / sockets, last - 1000 - down)


def main(arguments: list[str] | None = None) -> None:
    """Print the table, and draw it if that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--replicas", type=int, nargs="+", default=[1, 100, 10_000])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--plot", type=Path, metavar="FOLDER")
    parser.add_argument("--long", action="store_true", help="an outage of 600 s too")
    given = parser.parse_args(arguments)
    logging.getLogger("graphql_prod").setLevel(logging.ERROR)
    troubles = [*TROUBLES, *([LONG] if given.long else [])]
    courses: list[Course] = []
    for trouble in troubles:
        print(f"\n{trouble.name}")
        heads = ("replicas", "calls", "attempts", "a call", "worst s after", "all well after")
        print(f"{'':22}" + "".join(f"{head:>{width}}" for head, width in zip(heads, WIDTHS, strict=True)))
        for replicas in given.replicas:
            for kind in KINDS:
                course = Fleet(kind, trouble, replicas, given.seed).run()
                courses.append(course)
                well = "-" if course.good_after is None else f"{course.good_after:.0f} s"
                cells = (
                    *(replicas, course.calls, course.attempts),
                    *(f"{course.amplification:.2f}", f"{course.worst_after:.2f}", well),
                )
                row = "".join(f"{cell:>{width}}" for cell, width in zip(cells, WIDTHS, strict=True))
                print(f"{kind.name:22}{row}", flush=True)
    print(
        "\n10,000 shared sockets are cut: the reconnects of the fullest second, and when the last one is back"
    )
    print(f"{'upstream away for':22}" + "".join(f"{down:>13g} s" for down in AWAY))
    for initial in (0.5, 10.0):
        policy = SubscriptionPolicy(wait_initial=initial)
        found = [cut(10_000, given.seed, down, policy) for down in AWAY]
        spread = "".join(f"{each.largest:>8.1%}, {each.back:3.0f} s" for each in found)
        print(f"{f'wait_initial {initial:g}':22}{spread}")
    if given.plot is not None:
        draw(courses, given.plot)


def draw(courses: Iterable[Course], folder: Path) -> None:
    """A picture a trouble: what the upstream received, second by second."""
    import matplotlib as mpl

    mpl.use("Agg")
    mpl.rcParams["svg.hashsalt"] = "fleet"  # the same picture each time
    from matplotlib import pyplot

    folder.mkdir(parents=True, exist_ok=True)
    grouped: dict[str, list[Course]] = {}
    for course in courses:
        grouped.setdefault(course.trouble.name, []).append(course)
    for name, group in grouped.items():
        most = max(course.replicas for course in group)
        figure, axes = pyplot.subplots(figsize=(9, 4.2))
        for course in group:
            if course.replicas != most:
                continue
            seconds = range(1000, 1000 + int(WARM + course.trouble.seconds + AFTER))
            axes.plot(
                [second - 1000 - WARM for second in seconds],
                [course.received[second] for second in seconds],
                label=course.kind.name,
                linewidth=1.2,
            )
        axes.axvspan(0, group[0].trouble.seconds, alpha=0.08, color="black")
        axes.set(
            title=f"{name}, {most} replicas, {group[0].load:g} calls a second",
            xlabel="seconds since the trouble began",
            ylabel="attempts received a second",
        )
        axes.set_ylim(bottom=0)
        axes.legend(fontsize=8)
        figure.tight_layout()
        figure.savefig(folder / f"{'-'.join(name.replace('%', 'percent').split())}.svg", metadata=_undated())
        pyplot.close(figure)


def _undated() -> dict[str, Any]:
    return {"Date": None}


if __name__ == "__main__":
    main()
