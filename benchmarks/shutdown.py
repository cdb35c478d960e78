"""SIGTERM to a program with 1,000 calls and 200 subscriptions under way: what is lost, and how long it takes.

    python -m benchmarks.shutdown [--rounds 5] [--only idle answers silent killed twice] [--freeze]

idle       how long the interpreter takes to end a program that has done nothing but import the client

answers    the server answers every call within 2 s after the signal
silent     the server has stopped to read and to answer; the deadline is 2 s
killed     the server is killed half a second after the signal; the deadline is 2 s
twice      as silent, with the default deadline, and a second SIGTERM after half a second

With ``--freeze`` the program calls ``gc.freeze()`` once it has imported everything and again at its very
end, so that the collector does not go through all that in the middle of the shutdown and at the exit.

The program, the server and this one are three processes; all read the same clock. Every round has a new
program and a new server.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import itertools
import json
import logging
import os
import resource
import signal
import statistics
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

from aiographql.client import GraphQLRequest

from benchmarks.call import QUERY, VARIABLES
from benchmarks.canned_upstream import Upstream, canned_upstream
from graphql_prod import (
    PoolPolicy,
    ProductionClient,
    ProductionConfig,
    ShutdownCoordinator,
    SubscriptionPolicy,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from graphql_prod.sessions.policy import Backend

Part = Literal["idle", "answers", "silent", "killed", "twice"]

SPREAD = 2.0
"""Seconds over which the server sends its answers."""
DEADLINE = 2.0
PAUSE = 0.5
"""Seconds from the signal to what happens next."""
ENDS = ("wait", "exit")
HEAD = "min   median   max"
TICKS = GraphQLRequest("subscription Ticks($id: ID!) { ticked(id: $id) { id } }", variables={"id": "42"})


# --- the program


@dataclass(frozen=True)
class Orders:
    """What a program does."""

    url: str
    backend: Backend
    shared: bool
    calls: int
    subscriptions: int
    deadline: float
    freeze: bool


def footprint() -> dict[str, int]:
    """What a process holds: descriptors, and tasks beside the one that asks."""
    return {"descriptors": len(os.listdir("/proc/self/fd")) - 1, "tasks": len(asyncio.all_tasks()) - 1}


async def work(orders: Orders) -> dict[str, Any]:
    """Work until SIGTERM, and tell what came of it."""
    before = footprint()
    config = ProductionConfig(
        pool=PoolPolicy(requests=orders.calls, subscriptions=orders.subscriptions),
        subscriptions=SubscriptionPolicy(share_connection=orders.shared),
    )
    coordinator = ShutdownCoordinator(orders.deadline)
    client = ProductionClient(orders.url, validate=False, config=config, backend=orders.backend)
    coordinator.register(client)
    coordinator.install_signal_handlers()
    signaled = list[float]()
    coordinator.on_shutdown(lambda: signaled.append(time.process_time()))
    calls = [asyncio.create_task(client.query(QUERY, variables=VARIABLES)) for _ in range(orders.calls)]
    await asyncio.gather(
        *(client.subscribe(TICKS, on_data=lambda _: None) for _ in range(orders.subscriptions))
    )
    report = await coordinator.wait()
    ended, cpu = time.monotonic(), time.process_time()
    ends = await asyncio.gather(*calls, return_exceptions=True)
    del calls
    return {
        "ended": ended,
        "signaled_cpu": signaled[0],
        "cpu_to_wait": cpu - signaled[0],
        "calls": Counter("answered" if not isinstance(e, Exception) else type(e).__name__ for e in ends),
        "drained": report.subscriptions_drained,
        "duration": report.duration,
        "report": str(report),
        "before": before,
        "after": footprint(),
    }


def program(orders: Orders) -> None:
    """A whole life."""
    if orders.freeze:
        gc.freeze()
    facts = asyncio.run(work(orders)) if orders.url else {}
    facts["loop"] = time.monotonic()
    if orders.freeze:
        gc.freeze()
    print(json.dumps(facts), flush=True)


# --- who sends the signal


def start(orders: Orders) -> subprocess.Popen[bytes]:
    """A program."""
    command = [sys.executable, "-m", "benchmarks.shutdown", "--program", json.dumps(vars(orders))]
    return subprocess.Popen(command, stdout=subprocess.PIPE)


def end(process: subprocess.Popen[bytes]) -> tuple[float, dict[str, Any]]:
    """When it exited, and what it told, with the CPU time of all of it."""
    assert process.stdout is not None
    _, status, usage = os.wait4(process.pid, 0)
    exited = time.monotonic()
    if status:
        raise RuntimeError(f"the program ended with {status}")
    return exited, {**json.loads(process.stdout.read()), "cpu": usage.ru_utime + usage.ru_stime}


def trial(part: Part, orders: Orders, upstream: Upstream) -> dict[str, Any]:
    """One program's life and end: what it told, and when what happened."""
    with start(orders) as process:
        upstream.until_busy(orders.calls, orders.subscriptions)
        time.sleep(PAUSE)  # until it has nothing to do but to wait
        if part in ("silent", "twice"):
            upstream.tell("mute")
        since = time.monotonic()
        process.send_signal(signal.SIGTERM)
        if part == "answers":
            upstream.tell("answer", SPREAD)
        if part in ("killed", "twice"):
            time.sleep(PAUSE)
            since = time.monotonic()
        if part == "killed":
            upstream.kill()
        if part == "twice":
            process.send_signal(signal.SIGTERM)
        exited, facts = end(process)
    if part == "answers":
        since = upstream.tell("last")
    facts["cpu_to_exit"] = facts["cpu"] - facts["signaled_cpu"]
    return {**facts, "to_wait": facts["ended"] - since, "to_exit": exited - since}


def idle(rounds: int, freeze: bool) -> None:
    """A line."""
    seen = []
    for _ in range(rounds):
        with start(Orders("", "aiohttp", False, 0, 0, 0.0, freeze)) as process:
            exited, facts = end(process)
        seen.append(exited - facts["loop"])
    print(f"\nthe interpreter's end after importing alone, seconds (min, median, max): {_range(seen)}")


TITLES: dict[Part, str] = {
    "answers": f"answered within {SPREAD:g} s: seconds from the last answer (aim: 0.3)",
    "silent": f"the server is silent, deadline {DEADLINE:g} s: seconds from the signal (aim: 2.0 ± 0.3)",
    "killed": f"the server is killed {PAUSE:g} s after the signal: seconds from then (aim: at most 1.8)",
    "twice": "the server is silent, a second SIGTERM: seconds from the second (aim: 0.5)",
}


def measure(part: Part, rounds: int, calls: int, subscriptions: int, freeze: bool) -> None:
    """A table of one part."""
    deadline = DEADLINE if part in ("silent", "killed") else 25.0
    print(f"\n{TITLES[part]}")
    print(f"  {'':24} {'end of wait()':^22} {'end of the process':^22} {'CPU since SIGTERM':^20}")
    print(f"  {'':24} {HEAD:^22} {HEAD:^22} {'to wait()   to exit':^20}  in the mean")
    backends: tuple[Backend, ...] = ("aiohttp", "httpx")
    for backend, shared in itertools.product(backends, (False, True)):
        seen = []
        for _ in range(rounds):
            with canned_upstream() as upstream:
                orders = Orders(upstream.url, backend, shared, calls, subscriptions, deadline, freeze)
                seen.append(trial(part, orders, upstream))
        print(f"  {backend + (', shared' if shared else ', a socket each'):24} {_row(seen)}")
        if part == "answers":
            print(f"      {seen[-1]['report']}")


def _row(seen: list[dict[str, Any]]) -> str:
    calls: Counter[str] = Counter()
    for facts in seen:
        calls.update(facts["calls"])
    fates = ", ".join(f"{count / len(seen):g} {name}" for name, count in calls.items())
    drained = statistics.mean(facts["drained"] for facts in seen)
    kept = "; ".join(f"{what} {_change(what, seen)}" for what in ("descriptors", "tasks"))
    spent = "   ".join(f"{_median(facts[f'cpu_to_{what}'] for facts in seen):5.2f}" for what in ENDS)
    times = " ".join(f"{_range(facts[f'to_{what}'] for facts in seen):^22}" for what in ENDS)
    return f"{times} {spent:^20}  calls: {fates}; {drained:g} subscriptions drained; {kept}"


def _change(what: str, seen: list[dict[str, Any]]) -> str:
    return ", ".join(sorted({f"{facts['before'][what]} → {facts['after'][what]}" for facts in seen}))


def _median(values: Iterable[float]) -> float:
    return statistics.median(list(values))


def _range(values: Iterable[float]) -> str:
    figures = sorted(values)
    return f"{figures[0]:5.2f}  {statistics.median(figures):5.2f}  {figures[-1]:5.2f}"


def main() -> None:
    """Measure and print."""
    arguments = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--only", nargs="+", choices=get_args(Part), default=list(get_args(Part)))
    arguments.add_argument("--calls", type=int, default=1000)
    arguments.add_argument("--subscriptions", type=int, default=200)
    arguments.add_argument("--freeze", action="store_true", help="programs call gc.freeze()")
    arguments.add_argument("--program", type=json.loads, help=argparse.SUPPRESS)
    chosen = arguments.parse_args()
    logging.disable()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    if chosen.program:
        program(Orders(**chosen.program))
        return
    print(f"SIGTERM with {chosen.calls:,} calls and {chosen.subscriptions} subscriptions under way")
    for part in chosen.only:
        if part == "idle":
            idle(chosen.rounds, chosen.freeze)
        else:
            measure(part, chosen.rounds, chosen.calls, chosen.subscriptions, chosen.freeze)


if __name__ == "__main__":
    main()
