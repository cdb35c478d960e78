"""Bad weather from a seed: a server and the network before it misbehave, and clients are held to their word.

What is drawn is the trouble and what clients do in it; how the two meet is up to real sockets. A seed
replays the same trouble, not the same microseconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import time
import warnings
from collections import Counter
from random import Random
from typing import TYPE_CHECKING, Any

from aiographql.client import GraphQLClientException
from chaos_books import (
    ADD,
    ECHO,
    EXPIRED,
    HANGS,
    IDLE,
    KEY,
    LATE,
    PING,
    PONG,
    REST,
    SETTLED,
    TICK,
    Findings,
    Lag,
    Ledger,
    Mutations,
    give_up_ports,
    listening,
)
from chaos_endings import Endings, is_told
from chaos_weather import Weather
from subscribing import COUNT, PROTOCOLS

from graphql_prod import (
    ClientClosedError,
    HealthPolicy,
    PoolPolicy,
    ProductionClient,
    ProductionConfig,
    RetryPolicy,
    SchemaPolicy,
    SubscriptionGap,
    SubscriptionPolicy,
    SubscriptionState,
    TimeoutPolicy,
)
from graphql_prod.testing import Answer, FaultyProxy, ScriptedServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

    from aiographql.client import GraphQLSubscriptionEvent
    from subscribing import Backend

    from graphql_prod.testing import ReceivedRequest


class World(Weather):
    """A server behind a bad network, for one backend, and the clients before it."""

    def __init__(
        self, seed: int, backend: Backend, findings: Findings, lag: Lag, at_rest: asyncio.Barrier
    ) -> None:
        self.backend = backend
        self.findings = findings
        self.lag = lag
        self.done: Counter[str] = Counter()
        """What has happened, and how often."""
        self.mutations = Mutations(findings, backend)
        self._endings = Endings(findings.check, self.done)
        self.over = False
        """Nothing new is begun."""
        self._seed = seed
        self._at_rest = at_rest
        self._server = ScriptedServer()
        self._loop = asyncio.get_running_loop()
        self._token = 0
        """The number of the only token that is valid."""
        self._held = 0
        """The one that the clients' provider has."""
        self._used = 0
        """The last one that has let a call in."""
        self._turned_away: set[int] = set()
        self._go = asyncio.Event()
        """Set while calls may begin."""
        self._go.set()
        self._under_way = 0
        self._moves = 0
        self._lasting: list[ProductionClient] = []
        """The clients that are there all the time."""

    def chance(self, name: str) -> Random:
        """Of its own for each who draws: nobody's luck depends on when others drew."""
        return Random(f"{self._seed} {self.backend} {name}")

    # The run.

    async def run(self, seconds: float) -> None:
        """Trouble for so long; then it has to come to rest."""
        await self._start_server()
        try:
            async with FaultyProxy(self._server.port) as self._proxy:
                await self._use_clients(seconds)
        finally:
            await self._server.stop()
        self.mutations.arrived(self._server, self._turned_away)
        self.mutations.settle(float("inf"))

    async def _use_clients(self, seconds: float) -> None:
        async with self._client(share=False) as plain, self._client(share=True) as shared:
            self._lasting = [plain, shared]
            async with asyncio.TaskGroup() as actors:
                acting = [actors.create_task(actor) for actor in self._actors(plain, shared)]
                janitor = actors.create_task(self._keep_books())
                weather = actors.create_task(self._weather())
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(seconds):
                        await self.findings.first.wait()
                self.over = True
                await weather  # a trouble comes to its end, and leaves nothing half done
                await self._clear_up()
                await self._recovers(plain)
                await self._recovers(shared)
                janitor.cancel()
                _, late = await asyncio.wait(acting, timeout=REST)
                for task in late:
                    self.findings.add(f"{self.backend}: not at rest {REST:g} s after the trouble: {task}")
                    task.cancel()
            if await self._at_rest.wait() == 0:
                for what in hoard():
                    self.findings.add(f"kept at rest: {what}")
            for client in (plain, shared):
                await self._ends(client)

    def _actors(self, plain: ProductionClient, shared: ProductionClient) -> list[Any]:
        actors = [
            self._asks(plain, "asks 1"),
            self._asks(plain, "asks 2"),
            self._asks(shared, "asks 3"),
            self._changes(plain, "changes 1", keyed=False),
            self._changes(shared, "changes 2", keyed=False),
            self._changes(plain, "changes 3", keyed=True),
            self._probes(plain, "probes 1"),
            self._probes(shared, "probes 2"),
            self._leaves("leaves"),
            self._forks(plain, "forks"),
        ]
        for client, drops in ((plain, False), (shared, True)):
            for resumed in (True, False):
                name = f"{'shared' if drops else 'plain'}, {'with' if resumed else 'no'} cursor"
                if resumed or not drops:
                    actors.append(self._streams(client, f"stream {name}", resumed=resumed, drops=drops))
                if resumed:
                    actors.append(self._subscribes(client, f"subscribe {name}", resumed=resumed, drops=drops))
        return actors

    def _client(self, *, share: bool) -> ProductionClient:
        config = ProductionConfig(
            backend=self.backend,
            retry=RetryPolicy(wait_initial=0.01, wait_max=0.1),
            timeout=TimeoutPolicy(total=2, attempt=1, connect=0.5, read=0.5, pool=0.5),
            pool=PoolPolicy(requests=6, keepalive=1, max_age=3),
            schema=SchemaPolicy(mode="auto" if share else "off", ttl=7),
            health=HealthPolicy(min_interval=0.1),
            subscriptions=SubscriptionPolicy(
                ack_timeout=1,
                ping_interval=PING,
                pong_timeout=PONG,
                wait_initial=0.01,
                wait_max=0.2,
                stable_after=0.3,
                max_queue=5,
                overflow="drop_oldest" if share else "block",
                share_connection=share,
                linger=0.1,
                idle_timeout=IDLE if share else None,
                endpoint=self._moved if share else None,
                compression=share,
            ),
        )

        async def credentials(refresh: bool = False) -> dict[str, str]:
            await asyncio.sleep(0)
            if refresh:
                self._held = self._token
                self.done["renewals"] += 1
            return {"Authorization": f"Bearer {self._held}"}

        provider = credentials if share else None
        return ProductionClient(self._proxy.url_for("/graphql"), config=config, headers_provider=provider)

    async def _start_server(self) -> None:
        self._server.tick = TICK
        self._server.on_request, self._server.on_connect = self._judges, self._lets_in
        self._server.on_init = self._greets
        await listening(self._server.start)

    async def _moved(self) -> str:
        """Where subscriptions go: to another address each time."""
        self._moves += 1
        self.done["moves"] += 1
        await asyncio.sleep(0)
        return self._proxy.url_for(f"/graphql?move={self._moves}")

    def _payload(self) -> dict[str, Any]:
        """What a connection_init says of who connects."""
        self.done["payloads"] += 1
        return {"token": self._held}

    def _greets(self, payload: Mapping[str, Any]) -> int | None:
        return EXPIRED if payload.get("token", self._token) != self._token else None

    def _is_stale(self, request: ReceivedRequest) -> bool:
        """Whether it carries a token that has expired; a client without credentials has none."""
        return request.headers.get("Authorization", f"Bearer {self._token}") != f"Bearer {self._token}"

    def _judges(self, request: ReceivedRequest) -> Answer | None:
        if not self._is_stale(request):
            if "Authorization" in request.headers:
                self._used = self._token
            return None
        self._turned_away.add(id(request))
        self.done["stale tokens"] += 1
        if self._token % 2:
            return Answer.page(401)
        error = {"message": "expired", "extensions": {"code": "UNAUTHENTICATED"}}
        return Answer.graphql(errors=[error])

    def _lets_in(self, request: ReceivedRequest) -> int | None:
        return EXPIRED if self._is_stale(request) else None

    # What has to hold at the end.

    async def _clear_up(self) -> None:
        proxy = self._proxy
        proxy.latency, proxy.slicing, proxy.limit_bytes, proxy.refuse = 0.0, None, None, False
        proxy.reset_connections()
        proxy.blackhole = False
        await listening(proxy.up)
        await self._restart(self.chance("end"), 0)
        self._server.never_ack = False

    async def _recovers(self, client: ProductionClient) -> None:
        """In fair weather the next call is answered; a first one may meet what was left of the bad."""
        view = client.with_options(timeout=10)
        for _ in range(3):
            with contextlib.suppress(GraphQLClientException):
                if (await view.query(ECHO, variables={"value": "again"})).data == {"echo": "again"}:
                    return
        self.findings.add(f"{self.backend}: no answer in fair weather, {client.stats()}")

    async def _ends(self, client: ProductionClient) -> None:
        stats = client.stats()
        self.done.update(reconnects=stats.reconnects, retries=stats.retries, dropped=stats.dropped)
        failures = stats.callback_failures
        self.findings.check(not failures, f"{self.backend}: {failures} callbacks failed")
        report = await client.shutdown(10)
        self.findings.check(report.clean, f"{self.backend}: {report}")
        self._nothing_left(client)

    def _nothing_left(self, client: ProductionClient) -> None:
        after = client.stats()
        counts = after.in_flight, after.subscriptions, after.sockets, after.pool.in_use, after.pool.waiting
        self.findings.check(not any(counts), f"{self.backend}: left behind: {after}")

    async def _keep_books(self) -> None:
        while True:
            await asyncio.sleep(0.5)
            self.mutations.arrived(self._server, self._turned_away)
            self.mutations.settle(self._loop.time() - SETTLED)

    # Those who use a client.

    async def _call(self, what: str, total: float, call: Callable[[], Awaitable[Any]]) -> Any:
        """A call that must end within its deadline; None if it failed as it may."""
        await self._go.wait()
        self._under_way += 1
        try:
            return await self._timed(what, total, call)
        finally:
            self._under_way -= 1

    async def _timed(self, what: str, total: float, call: Callable[[], Awaitable[Any]]) -> Any:
        begun = self._loop.time()
        try:
            async with asyncio.timeout(total + HANGS):
                answer = await call()
        except GraphQLClientException as error:
            self.done[f"{what} failed"] += 1
            self.done[type(error).__name__] += 1
            return error
        except Exception as error:  # noqa: BLE001 -- any other one is the finding
            self.findings.add(f"{self.backend}: {what} with {total:.3f} s ended in {error!r}")
            return error
        finally:
            late = self._loop.time() - begun - total
            if late > LATE:
                late -= self.lag.since(begun + total)
                self.done["late loop"] += 1
            text = (
                f"{self.backend}: {what} outlived its {total:.3f} s by {late:.3f} s on top of the loop's lag"
            )
            self.findings.check(late <= LATE, text)
        self.done[f"{what} answered"] += 1
        return answer

    async def _asks(self, client: ProductionClient, name: str) -> None:
        chance, number = self.chance(name), 0
        while not self.over and client.state == "open":
            number += 1
            value, total = f"{name} {number}", chance.uniform(0.05, 2)
            view = client.with_options(timeout=total)
            if chance.random() < 0.1:
                await self._given_up(view.query(ECHO, variables={"value": value}), chance.uniform(0, 0.1))
            else:

                async def ask(view: ProductionClient = view, value: str = value) -> Any:
                    return await view.query(ECHO, variables={"value": value})

                answer = await self._call("query", total, ask)
                if not isinstance(answer, Exception):
                    right = answer.errors or answer.data == {"echo": value}
                    self.findings.check(right, f"{self.backend}: {value} was answered with {answer.data}")
            await asyncio.sleep(chance.uniform(0, 0.1))

    async def _given_up(self, call: Awaitable[Any], after: float) -> None:
        """The caller himself has no more time: he hears of it at once."""
        await self._go.wait()
        self._under_way += 1
        with contextlib.suppress(TimeoutError, GraphQLClientException):
            async with asyncio.timeout(after):
                await call
        self._under_way -= 1
        self.done["given up"] += 1

    async def _changes(self, client: ProductionClient, name: str, *, keyed: bool) -> None:
        chance = self.chance(name)
        while not self.over and client.state == "open":
            number, made = self.mutations.begin(keyed=keyed)
            total = chance.uniform(0.05, 2)
            retry = RetryPolicy(wait_initial=0.01, wait_max=0.1, idempotency_header=KEY if keyed else None)
            view = client.with_options(timeout=total, retry=retry)

            async def change(view: ProductionClient = view, number: int = number) -> Any:
                return await view.query(ADD, extensions={"number": number})

            if chance.random() < 0.1:
                await self._given_up(change(), chance.uniform(0, 0.1))
            else:
                answer = await self._call("mutation", total, change)
                if isinstance(answer, Exception):
                    made.unsent = not getattr(answer, "may_have_executed", True)
                elif not answer.errors:
                    made.answer = (answer.data or {}).get("increment", 0)
            made.ended = self._loop.time()
            await asyncio.sleep(chance.uniform(0, 0.1))

    async def _probes(self, client: ProductionClient, name: str) -> None:
        chance = self.chance(name)
        while not self.over:
            timeout = chance.uniform(0.05, 0.4)

            async def probe(timeout: float = timeout) -> Any:
                return await client.ready(timeout)

            readiness = await self._call("probe", timeout, probe)
            self.done[f"ready: {bool(readiness)}"] += 1
            await asyncio.sleep(chance.uniform(0, 0.2))

    # Those who subscribe.

    def _ledger(self, name: str, *, resumed: bool, drops: bool) -> Ledger:
        return Ledger(self.findings, name, self._endings, resumed=resumed, drops=drops)

    def _order(
        self, chance: Random, ledger: Ledger, *, resumed: bool, shared: bool
    ) -> tuple[int, dict[str, Any]]:
        to = chance.randint(20, 200) if resumed else chance.randint(5, 50)
        return to, {
            "variables": {"from": 0, "to": to},
            "resume": ledger.resume if resumed else None,
            "protocols": chance.choice(PROTOCOLS),
            "connection_init_payload": self._payload if shared else None,
        }

    async def _digest(self, chance: Random) -> None:
        """Most consumers are quick, and none is always."""
        self.done["events"] += 1
        if chance.random() < 0.04:
            await asyncio.sleep(chance.uniform(0, 0.8))

    async def _streams(self, client: ProductionClient, name: str, *, resumed: bool, drops: bool) -> None:
        chance, name = self.chance(name), f"{self.backend} {name}"
        while not self.over:
            ledger = self._ledger(name, resumed=resumed, drops=drops)
            to, order = self._order(chance, ledger, resumed=resumed, shared=drops)
            leave_at = chance.randint(0, to) if chance.random() < 0.2 else None
            try:
                async with contextlib.aclosing(client.stream(COUNT, gaps=True, **order)) as items:
                    async for item in items:
                        ledger.take(item)
                        self.done["gaps"] += isinstance(item, SubscriptionGap)
                        if ledger.last == leave_at:
                            break
                        await self._digest(chance)
                    else:
                        ledger.complete(to)
                self.done["streams ended"] += 1
            except GraphQLClientException as error:
                if is_told(error):
                    ledger.broken(error)
                self.done[f"stream: {type(error).__name__}"] += 1
            await asyncio.sleep(chance.uniform(0, 0.1))

    async def _subscribes(self, client: ProductionClient, name: str, *, resumed: bool, drops: bool) -> None:
        chance, name = self.chance(name), f"{self.backend} {name}"
        while not self.over:
            ledger = self._ledger(name, resumed=resumed, drops=drops)
            to, order = self._order(chance, ledger, resumed=resumed, shared=drops)
            leave = asyncio.Event()
            leave_at = chance.randint(0, to // 2) if chance.random() < 0.4 else None

            async def take(
                item: GraphQLSubscriptionEvent | SubscriptionGap,
                ledger: Ledger = ledger,
                leave: asyncio.Event = leave,
                leave_at: int | None = leave_at,
                name: str = name,
            ) -> None:
                ledger.take(item)
                self.done["gaps"] += isinstance(item, SubscriptionGap)
                if ledger.last == leave_at:
                    leave.set()
                    await asyncio.sleep(0.5)  # it is inside a callback that the end is asked for
                await self._digest(chance)
                self.findings.check(not ledger.over, f"{name}: a callback ran on after the end")

            broken: list[GraphQLSubscriptionEvent] = []
            states: list[SubscriptionState] = []

            async def fail(
                event: GraphQLSubscriptionEvent,
                ledger: Ledger = ledger,
                broken: list[GraphQLSubscriptionEvent] = broken,
            ) -> None:
                error = getattr(event, "exception", None)
                if error is not None and is_told(error):  # of the ends that we make the task tells
                    broken.append(event)
                    ledger.broken(error)

            try:
                subscription = await client.subscribe(
                    COUNT, on_data=take, on_gap=take, on_error=fail, on_state=states.append, **order
                )
                task, leaving = subscription.task, asyncio.create_task(leave.wait())
                assert task is not None
                await asyncio.wait({task, leaving}, return_when=asyncio.FIRST_COMPLETED)
                leaving.cancel()
                await asyncio.wait({leaving})
                if task.done():
                    await task
                    if not broken:
                        ledger.complete(to)
                await subscription.unsubscribe_and_wait()
                ledger.over = True
                self._tells_states(name, states)
                self.done["subscriptions ended"] += 1
            except GraphQLClientException as error:
                ledger.over = True
                self.done[f"subscription: {type(error).__name__}"] += 1
            await asyncio.sleep(chance.uniform(0, 0.1))

    def _tells_states(self, name: str, states: list[SubscriptionState]) -> None:
        """Each change is told once, in order, and the end is the last one."""
        told = [state.status for state in states]
        self.done["downs"] += told.count("down")
        right = told.count("ended") == 1 and told[-1] == "ended"
        self.findings.check(right, f"{name}: its states were {told[-20:]}")

    # One who leaves in the middle of it all.

    async def _leaves(self, name: str) -> None:
        chance, number = self.chance(name), 0
        while not self.over:
            number += 1
            client, mine = self._client(share=False), f"{name} {number}"
            async with asyncio.TaskGroup() as actors:
                actors.create_task(self._asks(client, f"{mine} asks"))
                actors.create_task(self._changes(client, f"{mine} changes", keyed=False))
                following = actors.create_task(self._follows(client, mine))
                await asyncio.sleep(chance.uniform(0, 1.5))
                deadline = chance.choice([0.0, chance.uniform(0, 0.5), 10.0])
                async with self._in_time(f"a shutdown within {deadline:g} s", deadline + HANGS):
                    report = await client.shutdown(deadline)
            lost = await following
            text = f"{self.backend} {mine}: events were thrown away, and the report says {report}"
            self.findings.check(not (lost and report.clean), text)
            self._nothing_left(client)
            self.done["clean shutdowns" if report.clean else "shutdowns cut short"] += 1

    @contextlib.asynccontextmanager
    async def _in_time(self, what: str, seconds: float) -> AsyncIterator[None]:
        begun = self._loop.time()
        yield
        late = self._loop.time() - begun - seconds
        self.findings.check(late <= 0, f"{self.backend}: {what} took {late:.3f} s too long")

    async def _follows(self, client: ProductionClient, name: str) -> bool:
        """Read to the end; whatever came is read, or an error says that it was not. True if it does."""
        chance = self.chance(name)
        ledger = self._ledger(f"{self.backend} {name}", resumed=True, drops=False)
        events = client.stream(COUNT, variables={"from": 0}, gaps=True, resume=ledger.resume)
        try:
            async with contextlib.aclosing(events) as items:
                async for item in items:
                    ledger.take(item)
                    await self._digest(chance)
        except ClientClosedError:
            return client.stats().events > ledger.last + 1
        except GraphQLClientException as error:
            if is_told(error):
                ledger.broken(error)
            self.done[f"stream: {type(error).__name__}"] += 1
        came = client.stats().events
        text = f"{self.backend} {name}: {came} events came, and it ended in order after {ledger.last}"
        self.findings.check(came == ledger.last + 1, text)
        return False

    # One who has children.

    async def _forks(self, client: ProductionClient, name: str) -> None:
        """A child of the process uses the client and closes it, and has nothing of what goes on here."""
        chance = self.chance(name)
        while not self.over:
            await asyncio.sleep(chance.uniform(3, 12))
            if self.over:
                return
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # of threads, from Python 3.12 on
                child = os.fork()
            if not child:
                in_child(client)
            status = await self._buried(child)
            self.findings.check(not status, f"{self.backend} {name}: a child ended with {status}")
            self.done["children"] += 1

    async def _buried(self, child: int) -> int:
        while True:
            ended, status = os.waitpid(child, os.WNOHANG)  # noqa: ASYNC222 -- it does not block
            if ended:
                return os.waitstatus_to_exitcode(status)
            await asyncio.sleep(0.02)


def in_child(client: ProductionClient) -> None:
    """What a forked child does, which never returns: exit status 0 if the client is its own."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)  # pytest's limit is for the parent
    signal.setitimer(signal.ITIMER_REAL, REST)
    status = 1
    try:
        give_up_ports()
        status = asyncio.run(_use_in_child(client))
    finally:
        os._exit(status)


async def _use_in_child(client: ProductionClient) -> int:
    """1: a foreign error came out; 2: not closed; 3: it has what is the parent's; 4: the close was late."""
    before = client.stats()
    if before.in_flight or before.subscriptions or before.sockets or before.pool.in_use:
        return 3
    with contextlib.suppress(GraphQLClientException):
        await client.with_options(timeout=2).query(ECHO, variables={"value": "child"})
    begun = time.monotonic()
    await client.close()
    if time.monotonic() - begun > HANGS:
        return 4
    return 0 if client.state == "closed" else 2


class Ground:
    """What a process holds: looked at once a second."""

    def __init__(self) -> None:
        self.samples: list[tuple[float, int, int]] = []
        """Memory in MB, tasks, descriptors."""

    async def watch(self, every: float) -> None:
        while True:
            await asyncio.sleep(every)
            self.samples.append((memory(), len(asyncio.all_tasks()), len(os.listdir("/proc/self/fd"))))

    def growth(self) -> list[float]:
        """From the second fifth to the last one, of the lowest: spikes come and go, what leaks stays."""
        fifth = len(self.samples) // 5
        before, after = self.samples[fifth : 2 * fifth], self.samples[-fifth:]
        lowest = [[min(column) for column in zip(*part, strict=True)] for part in (before, after)]
        return [last - first for first, last in zip(*lowest, strict=True)]


OURS = ("graphql_prod", "aiographql", "aiohttp", "_asyncio", "asyncio", "httpx", "websockets")
BOOKS = "graphql_prod.testing."
"""What the server keeps for the test."""
FEW = 150
"""Of what clients may keep at rest; where something of each call or connection is kept there is more."""


def hoard() -> list[str]:
    """What there is too much of, while clients are open and do nothing."""
    gc.collect()
    kept = Counter(f"{type(each).__module__}.{type(each).__qualname__}" for each in gc.get_objects())
    ours = {kind: count for kind, count in kept.items() if kind.startswith(OURS) and BOOKS not in kind}
    ours["descriptors"] = len(os.listdir("/proc/self/fd"))
    return [f"{count} {kind}" for kind, count in ours.items() if count > FEW]


def memory() -> float:
    """MB that the process has in memory."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


@contextlib.asynccontextmanager
async def in_background(*watches: Any) -> AsyncIterator[None]:
    """Run them as long as the block."""
    tasks = [asyncio.create_task(watch) for watch in watches]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
