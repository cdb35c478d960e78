"""What of a subscription arrives: over lost connections, behind slow consumers, and up to its end."""

from __future__ import annotations

import asyncio
import contextlib
import random
from typing import TYPE_CHECKING, Any

import pytest
from aiographql.client import GraphQLRequestException
from subscribing import (
    COUNT,
    EVENTS,
    STARTS,
    STOPS,
    Backend,
    Follower,
    Mode,
    Protocol,
    client_of,
    onward,
    sent,
    until,
    value_of,
)

from graphql_prod import ProductionClient, SubscriptionClosedError, SubscriptionGap
from graphql_prod.testing import ScriptedServer

if TYPE_CHECKING:
    from collections.abc import Iterable

PAD = "x" * 300_000


async def finished(follower: Follower) -> None:
    """Wait for the end of much work; what it raises is raised."""
    await asyncio.wait_for(asyncio.shield(follower.task), 40)


def sent_on(server: ScriptedServer, connection: int) -> list[int]:
    """The numbers that the server sent on a connection."""
    return [event.value for event in server.events_sent if event.connection == connection]


async def kills(server: ScriptedServer, chance: random.Random, times: int) -> list[int | None]:
    """Break connections of a running subscription at random moments; the codes told, None for a reset."""
    codes: list[int | None] = []
    last = events = 0

    def due() -> bool:
        running = [socket.number for socket in server.sockets if socket.subscriptions]
        return any(n > last and len(sent_on(server, n)) >= events for n in running)

    for _ in range(times):
        events = chance.randrange(1, 60)
        await server.until(due)
        last = server.sockets[-1].number
        code = chance.choice([None, None, None, 1001, 1011, 4000])
        codes.append(code)
        if code is None:
            server.reset_sockets()
        else:
            await server.close_sockets(code, "again")
    return codes


async def dropped_more(client: ProductionClient, server: ScriptedServer) -> None:
    """Wait until twenty events more were dropped, or there are none any more."""
    before = client.stats().dropped
    await until(lambda: client.stats().dropped > before + 20 or not server.sockets)


async def takes(follower: Follower, n: int) -> None:
    """Wait until it has taken so many more, or is through."""
    before = len(follower.values)
    await until(lambda: len(follower.values) >= before + n or follower.task.done())


def missing(items: Iterable[int | SubscriptionGap]) -> int:
    """How many events the gaps count as dropped; fails if an event is missing that none of them counts."""
    expected = dropped = 0
    for item in items:
        if isinstance(item, int):
            assert item == expected
            expected += 1
        else:
            expected += item.dropped
            dropped += item.dropped
    return dropped


class Flood:
    """Big events of our own on a server's only socket, whose subscription does not tick.

    60 MB in all: many times what the kernel keeps for a reader that does not read.
    """

    def __init__(self, server: ScriptedServer) -> None:
        server.tick = 3600
        self.server = server
        self.count = 200
        self.sent = 0
        self.task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        await self.server.until(lambda: len(self.server.events_sent) == 1)
        [socket] = self.server.sockets
        [key] = socket.subscriptions
        for value in range(1, self.count + 1):
            payload = {"data": {"count": value, "pad": PAD}}
            await socket.send({"type": EVENTS[str(socket.subprotocol)], "id": key, "payload": payload})
            self.sent = value
        await socket.send({"type": "complete", "id": key})

    async def stuck(self) -> None:
        """Wait until the server could not send for a hundred rounds of the loop."""
        rounds, before = 0, -1
        async with asyncio.timeout(20):
            while rounds < 100:
                rounds = rounds + 1 if self.sent == before else 0
                before = self.sent
                await asyncio.sleep(0.002)
        assert not self.task.done()


class TestResume:
    async def test_a_cursor_delivers_everything_exactly_once(
        self, server: ScriptedServer, backend: Backend, protocol: Protocol, mode: Mode
    ) -> None:
        """Over ten lost connections; resume is asked before each resubscription, not on the first connect."""
        asked: list[dict[str, Any]] = []

        def resume(last: Any, variables: dict[str, Any]) -> dict[str, Any]:
            asked.append(dict(variables))
            variables.update(onward(last, variables))  # they are its own to change
            return variables

        async def resume_later(last: Any, variables: dict[str, Any]) -> dict[str, Any]:
            await asyncio.sleep(0)
            return resume(last, variables)

        variables = {"from": 0, "to": 999}
        asking = resume if backend == "aiohttp" else resume_later
        async with client_of(server.url, backend) as client:
            chance = random.Random(f"{backend} {protocol} {mode}")
            killing = asyncio.create_task(kills(server, chance, 10))
            async with Follower(client, mode, protocol, variables=variables, resume=asking) as follower:
                await finished(follower)
            codes = await killing
        assert follower.values == list(range(1000))
        assert [gap.close_code for gap in follower.gaps] == codes
        assert asked == [variables] * 10
        assert variables == {"from": 0, "to": 999}
        assert len(sent(server, STARTS)) == 11

    async def test_the_last_event_is_the_last_one_queued(
        self, server: ScriptedServer, backend: Backend, mode: Mode
    ) -> None:
        """Not the last one consumed: what waits in the queue is delivered, so it is not asked for again."""
        lasts: list[int] = []

        def resume(last: Any, variables: dict[str, Any]) -> dict[str, Any]:
            lasts.append(value_of(last))
            return onward(last, variables)

        async with (
            client_of(server.url, backend) as client,
            Follower(client, mode, variables={"to": 99}, resume=resume) as follower,
        ):
            follower.gate.clear()
            await server.until(lambda: len(server.events_sent) >= 50)
            server.reset_sockets()
            await server.subscribed(2)
            assert follower.seen == [0]
            follower.gate.set()
            await finished(follower)
        assert follower.values == list(range(100))
        assert len(lasts) == 1
        assert lasts[0] > 0

    async def test_before_the_first_event_there_is_no_last_one(
        self, server: ScriptedServer, backend: Backend, mode: Mode
    ) -> None:
        """``last_event`` is None then."""
        asked: list[tuple[Any, dict[str, Any]]] = []

        def resume(last: Any, variables: dict[str, Any]) -> dict[str, Any]:
            asked.append((last, variables))
            return {"from": 3, "to": 5}

        server.never_ack = True
        async with (
            client_of(server.url, backend, fatal_close_codes=frozenset({4403})) as client,
            Follower(client, mode, variables={"from": 1}, resume=resume) as follower,
        ):
            await server.until(lambda: len(server.messages) == 1)
            server.never_ack = False
            # The server knows nothing of this acknowledgement: it closes with 4401 when it is subscribed to.
            await server.send_to_sockets({"type": "connection_ack"})
            await finished(follower)
        assert follower.values == [3, 4, 5]
        assert [gap.close_code for gap in follower.gaps] == [4401]
        assert asked == [(None, {"from": 1})]

    @pytest.mark.parametrize("trouble", ["raises", "raises later", "cancels itself", "none", "no mapping"])
    async def test_a_resume_that_fails_ends_the_subscription(
        self, server: ScriptedServer, backend: Backend, mode: Mode, trouble: str
    ) -> None:
        """After what was queued; nothing is subscribed again, and the cause is the failure."""
        failure = asyncio.CancelledError() if trouble == "cancels itself" else LookupError("no cursor")

        def resume(*_: object) -> Any:
            if trouble in ("raises", "cancels itself"):
                raise failure
            return {"none": None, "no mapping": ["from", 1]}[trouble]

        async def resume_later(*_: object) -> Any:
            raise failure

        asking = resume_later if trouble == "raises later" else resume
        async with (
            client_of(server.url, backend) as client,
            Follower(client, mode, resume=asking) as follower,
        ):
            await follower.came(3)
            server.reset_sockets()
            error = await follower.end()
            await server.socket_count(0)
            assert client.stats().subscriptions == 0
        assert isinstance(error, SubscriptionClosedError)
        assert "resume" in str(error)
        assert error.__cause__ is failure or trouble in ("none", "no mapping")
        assert error.__cause__ is not None
        assert follower.values == list(range(len(follower.values)))
        assert len(sent(server, STARTS)) == 1
        told: list[Any] = follower.errors
        assert [event.exception for event in told] == ([error] if mode == "subscribe" else [])

    async def test_one_that_hangs_holds_up_nobody_else(
        self, server: ScriptedServer, backend: Backend, protocol: Protocol
    ) -> None:
        """On a shared connection the others go on; the one that waits can be ended."""
        server.tick = 0.002
        asked = asyncio.Event()

        async def resume(*_: object) -> Any:
            asked.set()
            await asyncio.Event().wait()

        async with (
            client_of(server.url, backend, share_connection=True, linger=0.01) as client,
            Follower(client, "subscribe", protocol, resume=resume) as waiting,
        ):
            await waiting.came(2)
            async with Follower(client, "stream", protocol, variables={"to": 30}, resume=onward) as other:
                await other.came(2)
                server.reset_sockets()
                await asyncio.wait_for(asked.wait(), 10)
                assert await other.end() is None
            assert other.values == list(range(31))
            assert not waiting.task.done()
            await waiting.stop()
            await server.socket_count(0)
        assert len(server.upgrades) == 2


class TestGaps:
    async def test_gaps_account_for_every_missing_event(
        self, server: ScriptedServer, backend: Backend, protocol: Protocol, mode: Mode
    ) -> None:
        """What comes of a connection begins where it began and has no hole; one gap lies between two."""
        async with client_of(server.url, backend) as client:
            chance = random.Random(f"{backend} {protocol} {mode}")
            killing = asyncio.create_task(kills(server, chance, 6))
            async with Follower(client, mode, protocol, variables={"to": 200}) as follower:
                await finished(follower)
            codes = await killing
        runs: list[list[int]] = [[]]
        for item in follower.seen:
            if isinstance(item, SubscriptionGap):
                runs.append([])
            else:
                runs[-1].append(item)
        assert len(runs) == 7
        for connection, run in enumerate(runs, 1):
            assert run == list(range(len(run)))
            # The last event before a reset may be missing in the server's log.
            assert 1 <= len(run) <= len(sent_on(server, connection)) + 1
        assert runs[-1] == list(range(201))
        assert [gap.close_code for gap in follower.gaps] == codes
        for gap in follower.gaps:
            assert gap.close_reason == "again" if gap.close_code else gap.close_reason
            assert (gap.attempts, gap.dropped) == (1, 0)
            assert 0 <= gap.down_for < 10

    async def test_a_gap_counts_the_attempts_it_took(
        self, server: ScriptedServer, backend: Backend, mode: Mode
    ) -> None:
        """One gap, however often connecting failed in between, with the code of the loss."""
        server.tick = 0.005
        async with (
            client_of(server.url, backend) as client,
            Follower(client, mode, variables={"to": 20}) as follower,
        ):
            await follower.came(2)
            verdicts: list[int | None] = [503, 1012, 429, None]
            server.on_connect = lambda _: verdicts.pop(0)
            await server.close_sockets(1001)
            await finished(follower)
        [gap] = follower.gaps
        assert (gap.close_code, gap.attempts, gap.dropped) == (1001, 4, 0)
        assert gap.down_for > 0

    async def test_a_stream_yields_no_gaps_unless_it_is_asked(
        self, server: ScriptedServer, backend: Backend
    ) -> None:
        """Data events are all that a program sees that knows nothing of gaps."""
        server.tick = 0.005
        got = []
        async with (
            client_of(server.url, backend) as client,
            contextlib.aclosing(client.stream(COUNT, variables={"to": 9})) as events,
        ):
            async for event in events:
                got.append(value_of(event))
                if got == [0, 1, 2]:
                    server.reset_sockets()
            assert client.stats().reconnects == 1
        assert got[:3] == [0, 1, 2]
        assert got[-10:] == list(range(10))


class TestOverflow:
    async def test_block_holds_the_server_back_and_loses_nothing(
        self, server: ScriptedServer, backend: Backend, protocol: Protocol, mode: Mode
    ) -> None:
        """A consumer that stands still stops the sending, and when it goes on everything comes."""
        flood = Flood(server)
        async with (
            client_of(server.url, backend, max_queue=5) as client,
            Follower(client, mode, protocol) as follower,
        ):
            follower.gate.clear()
            await flood.stuck()
            assert follower.seen == [0]
            follower.gate.set()
            await finished(follower)
            await flood.task
        assert follower.seen == list(range(201))
        assert len(server.upgrades) == 1

    async def test_a_reader_held_back_is_not_taken_for_a_dead_peer(
        self, server: ScriptedServer, backend: Backend, protocol: Protocol, mode: Mode
    ) -> None:
        """While a full queue holds the reading back, the clock of pings and their answers stands still."""
        flood = Flood(server)
        async with (
            client_of(server.url, backend, max_queue=2, ping_interval=0.05, pong_timeout=0.25) as client,
            Follower(client, mode, protocol) as follower,
        ):
            follower.gate.clear()
            await flood.stuck()
            await asyncio.sleep(1)  # many intervals and timeouts
            assert client.stats().reconnects == 0
            follower.gate.set()
            await finished(follower)
            await flood.task
        assert follower.seen == list(range(201))
        assert len(server.upgrades) == 1

    async def test_what_is_held_back_can_be_ended(
        self, server: ScriptedServer, backend: Backend, protocol: Protocol, mode: Mode
    ) -> None:
        """A full queue holds up no end, and what waits in it is not delivered any more."""
        flood = Flood(server)
        async with client_of(server.url, backend, max_queue=2) as client:
            follower = Follower(client, mode, protocol)
            follower.gate.clear()
            await flood.stuck()
            if follower.subscription is None:
                follower.task.cancel()
            else:
                follower.subscription.unsubscribe()
            await server.socket_count(0)
            await follower.stop()
            with contextlib.suppress(ConnectionError):
                await flood.task
            assert client.stats().subscriptions == 0
        assert follower.seen == [0]

    async def test_what_is_held_back_is_cut_with_its_client(
        self, server: ScriptedServer, backend: Backend, protocol: Protocol, mode: Mode
    ) -> None:
        """Leaving by an exception closes the socket, although nobody reads from it."""
        flood = Flood(server)
        with contextlib.suppress(LookupError):
            async with client_of(server.url, backend, max_queue=2) as client:
                follower = Follower(client, mode, protocol)
                follower.gate.clear()
                await flood.stuck()
                raise LookupError("body")
        await server.socket_count(0)
        with contextlib.suppress(ConnectionError):
            await flood.task
        await follower.stop()
        assert client.stats().sockets == 0

    async def test_drop_oldest_tells_what_it_dropped(
        self, server: ScriptedServer, backend: Backend, protocol: Protocol, mode: Mode
    ) -> None:
        """Received and dropped are the whole, each gap in the place of what it counts."""
        async with (
            client_of(server.url, backend, max_queue=7, overflow="drop_oldest") as client,
            Follower(client, mode, protocol, variables={"to": 1999}) as follower,
        ):
            while not follower.task.done():
                follower.gate.clear()
                await dropped_more(client, server)
                follower.gate.set()
                await takes(follower, 15)
            await finished(follower)
            dropped = client.stats().dropped
        assert missing(follower.seen) == dropped > 20
        assert follower.values[-1] == 1999
        for gap in follower.gaps:
            assert (gap.close_code, gap.attempts, gap.down_for) == (None, 0, 0.0)
            assert gap.dropped > 0
        assert len(follower.gaps) > 1
        assert len(server.upgrades) == 1

    async def test_drops_and_a_lost_connection_add_up(
        self, server: ScriptedServer, backend: Backend, mode: Mode
    ) -> None:
        """With a cursor nothing is missing but what the gaps count."""
        async with (
            client_of(server.url, backend, max_queue=5, overflow="drop_oldest") as client,
            Follower(client, mode, variables={"to": 400}, resume=onward) as follower,
        ):
            follower.gate.clear()
            await server.until(lambda: len(server.events_sent) >= 40)
            server.reset_sockets()
            await server.subscribed(2)
            await until(lambda: client.stats().dropped > 100)
            follower.gate.set()
            await finished(follower)
            assert missing(follower.seen) == client.stats().dropped
        assert follower.values[-1] == 400
        assert sum(gap.attempts for gap in follower.gaps) == 1

    async def test_error_ends_the_subscription_after_what_is_queued(
        self, server: ScriptedServer, backend: Backend, protocol: Protocol, mode: Mode
    ) -> None:
        """The server is told at once; the consumer gets the queue, then the error."""
        async with (
            client_of(server.url, backend, max_queue=10, overflow="error") as client,
            Follower(client, mode, protocol) as follower,
        ):
            follower.gate.clear()
            await server.until(lambda: len(sent(server, STOPS)) == 1)
            await server.socket_count(0)
            assert follower.seen == [0]
            follower.gate.set()
            error = await follower.end()
            assert client.stats().subscriptions == 0
        assert isinstance(error, SubscriptionClosedError)
        assert error.close_code is None
        assert "max_queue" in str(error)
        assert follower.seen == list(range(11))  # one in the consumer's hands, and the queue
        told: list[Any] = follower.errors
        assert [event.exception for event in told] == ([error] if mode == "subscribe" else [])
        assert len(server.upgrades) == 1


class TestEnd:
    async def test_nothing_reconnects_after_complete(
        self, server: ScriptedServer, backend: Backend, protocol: Protocol, mode: Mode
    ) -> None:
        """The iterator ends, the task has no failure, the socket is closed."""
        async with (
            client_of(server.url, backend) as client,
            Follower(client, mode, protocol, variables={"to": 3}) as follower,
        ):
            assert await follower.end() is None
            await server.socket_count(0)
            assert client.stats().subscriptions == 0
        assert follower.seen == [0, 1, 2, 3]
        assert len(server.upgrades) == 1

    async def test_an_error_is_raised_out_of_a_stream(
        self, server: ScriptedServer, backend: Backend, protocol: Protocol
    ) -> None:
        """After the events before it, with the server's words; nothing reconnects."""
        server.tick = 3600
        error: Any = {"message": "out of order"}
        async with client_of(server.url, backend) as client:
            stream = client.stream(COUNT, protocols=protocol)
            assert value_of(await anext(stream)) == 0
            [key] = server.sockets[0].subscriptions
            payload = error if protocol == "graphql-ws" else [error]
            await server.send_to_sockets({"type": "error", "id": key, "payload": payload})
            with pytest.raises(GraphQLRequestException, match="out of order") as caught:
                await asyncio.wait_for(anext(stream), 10)
            assert [error.message for error in caught.value.response.errors] == ["out of order"]
            with pytest.raises(StopAsyncIteration):
                await anext(stream)
            await server.socket_count(0)
        assert len(server.upgrades) == 1

    async def test_a_document_that_the_server_refuses_is_an_error(
        self, server: ScriptedServer, backend: Backend, protocol: Protocol
    ) -> None:
        """Before any event."""
        async with client_of(server.url, backend) as client:
            with pytest.raises(GraphQLRequestException, match="nothing"):
                await anext(client.stream("subscription { nothing }", protocols=protocol))
            await server.socket_count(0)
        assert len(server.upgrades) == 1

    async def test_events_with_partial_errors_are_events(
        self, server: ScriptedServer, backend: Backend, protocol: Protocol
    ) -> None:
        """As stock: data and errors side by side, and the subscription goes on."""
        server.tick = 3600
        payload = {"data": {"count": None}, "errors": [{"message": "partly"}]}
        async with (
            client_of(server.url, backend) as client,
            contextlib.aclosing(client.stream(COUNT, protocols=protocol)) as events,
        ):
            await anext(events)
            [key] = server.sockets[0].subscriptions
            for part in (payload, {"data": {"count": 7}}):
                await server.send_to_sockets({"type": EVENTS[protocol], "id": key, "payload": part})
            event: Any = await asyncio.wait_for(anext(events), 10)
            assert [error.message for error in event.payload.errors] == ["partly"]
            assert value_of(await anext(events)) == 7


def test_one_client_streams_on_two_event_loops(backend: Backend) -> None:
    """``asyncio.run`` twice with one client: the second loop gets a session of its own."""
    clients: list[ProductionClient] = []

    async def use(port: int) -> int:
        async with ScriptedServer(port=port) as server:
            if not clients:
                clients.append(ProductionClient(server.url, validate=False, backend=backend))
            for mode in ("stream", "subscribe"):
                async with Follower(clients[0], mode, variables={"to": 9}) as follower:
                    await finished(follower)
                assert follower.seen == list(range(10))
            if port:
                await clients[0].close()
            return server.port

    asyncio.run(use(asyncio.run(use(0))))
