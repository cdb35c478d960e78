"""What proxies do to a client in production: one server behind nginx, and behind HAProxy."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING

import pytest
from processes import PEERS, until
from stage import ADD, ADD_SLOWLY, HELLO, ONCE, SLOW, Cell, Load
from subscribing import COUNT, Follower, onward

from graphql_prod import HTTPStatusError, InvalidResponseError, TransportError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from processes import Authority, Proxy
    from subscribing import Mode

    from graphql_prod import SubscriptionGap

PEER = next(peer for peer in PEERS if peer.name == "graphql-ws")

# The proxies differ in how they say that nobody is there.
DOWN = {"nginx": 502, "haproxy": 503}

ONE_WORKER = pytest.mark.xdist_group("proxies")
pytestmark = [
    pytest.mark.timeout(150),
    pytest.mark.parametrize("process", [pytest.param(PEER, marks=ONE_WORKER, id=PEER.name)], indirect=True),
    pytest.mark.parametrize("via", ["nginx", "haproxy"]),
]


def proxy_of(cell: Cell) -> Proxy:
    assert cell.proxy is not None
    return cell.proxy


def name_of(cell: Cell, what: str) -> str:
    """A key that no other test has used."""
    return f"{what}-{cell.backend}-{proxy_of(cell).program}"


def unbroken(seen: Iterable[int | SubscriptionGap]) -> None:
    values = [each for each in seen if isinstance(each, int)]
    assert values == list(range(len(values)))


class TestServerDown:
    async def test_told(self, cell: Cell) -> None:
        """A server that is not there is the proxy's 502 or 503; a mutation is not sent again for that."""
        proxy = proxy_of(cell)
        await cell.server.kill_9()
        async with cell.client(settings={"retry": ONCE}) as client:
            with pytest.raises(HTTPStatusError) as caught:
                await client.query(HELLO)
            assert caught.value.status == DOWN[proxy.program]
            assert not (ready := await client.ready())
            assert str(caught.value.status) in (ready.reason or "")
        async with cell.client() as client:
            with pytest.raises(HTTPStatusError) as caught:
                await client.query(ADD, variables={"key": name_of(cell, "down")})
            assert (caught.value.status, caught.value.attempts) == (DOWN[proxy.program], 1)
            assert caught.value.may_have_executed
        cell.note("says: the server is down", caught.value.status)

    async def test_outlived(self, cell: Cell, mode: Mode) -> None:
        """Queries and subscriptions that were begun while it was down go through once it is up."""
        await cell.server.kill_9()
        async with cell.client() as client, Follower(client, mode, resume=onward) as follower:
            query = asyncio.create_task(client.query(HELLO))
            await until(lambda: client.stats().retries > 2, client.stats)
            assert not query.done()
            assert not follower.task.done()
            await cell.server.start()
            assert (await query).data == {"hello": "Hello, world!"}
            await follower.began(5)
            unbroken(follower.seen)


class TestServerSlow:
    async def test_told(self, cell: Cell) -> None:
        """A proxy that has waited long enough says 504: a query is asked again, a mutation may have run."""
        key = name_of(cell, "slow")
        async with cell.client(listener="impatient", settings={"retry": ONCE}) as client:
            with pytest.raises(HTTPStatusError) as caught:
                await client.query(SLOW, variables={"key": key})
            assert caught.value.status == 504
        async with cell.client(listener="impatient") as client:
            query = asyncio.create_task(client.query(SLOW, variables={"key": key}))
            with pytest.raises(HTTPStatusError) as caught:
                await client.query(ADD_SLOWLY, variables={"key": key})
            assert (caught.value.status, caught.value.attempts) == (504, 1)
            assert caught.value.may_have_executed
            await until(lambda: client.stats().retries, client.stats)
            await cell.server.say("release")
            assert (await query).data == {"slow": key}
        assert cell.server.executions(key) == 1
        cell.note("says: the server is slow", caught.value.status)


class TestReload:
    async def test_in_mid_load(self, cell: Cell) -> None:
        """A proxy that is reloaded loses no query, repeats no mutation; WebSockets that it cuts are told."""
        proxy = proxy_of(cell)
        async with (
            cell.client() as client,
            Follower(client, "stream", resume=onward) as follower,
            Load(client, cell.server, name_of(cell, "reload")) as load,
        ):
            await follower.began(5)
            await load.went_on()
            for reloads in (1, 2):
                gone = await proxy.reload()
                await load.went_on()
                await until(gone, lambda: f"the end of the old worker: {proxy.told[-2000:]}")
                await follower.went_on(reloads)
            await load.went_on()
            await load.stop()
            await follower.came(5)
            unbroken(follower.seen)
        cell.note("says: a reload, of a WebSocket", follower.gaps[0].close_code or "no close frame")


class TestIdle:
    async def test_a_quiet_subscription(self, cell: Cell) -> None:
        """Pings keep a quiet subscription under the proxy's idle limit; without them it is cut, and told."""
        async with (
            cell.client(listener="impatient", ping_interval=0.1, pong_timeout=30) as pinging,
            cell.client(listener="impatient", ping_interval=None) as silent,
            Follower(pinging, "stream", resume=onward) as kept,
            Follower(silent, "subscribe", resume=onward) as cut,
        ):
            await kept.began(5)
            await cut.began(5)
            await cell.server.say("hold")
            # The one that is cut three times over is the clock for the one that is not.
            await until(lambda: silent.stats().reconnects >= 3, silent.stats)
            await cell.server.say("tick")
            await cut.until(lambda: cut.resumed)
            await kept.came(5)
            assert not kept.gaps
            unbroken(kept.seen)
            unbroken(cut.seen)
        cell.note("says: a quiet subscription", cut.gaps[0].close_code or "no close frame")

    async def test_a_frozen_server(self, cell: Cell, caplog: pytest.LogCaptureFixture) -> None:
        """A server that is frozen behind a proxy that is not is noticed by its silence; then all goes on."""
        async with (
            cell.client(ping_interval=0.1, pong_timeout=1, ack_timeout=1) as client,
            Follower(client, "stream", resume=onward) as follower,
        ):
            await follower.began(5)
            cell.server.signal(signal.SIGSTOP)
            try:
                await until(lambda: "did not answer a ping" in caplog.text, lambda: caplog.text)
            finally:
                cell.server.signal(signal.SIGCONT)
            await follower.until(lambda: follower.resumed)
            await follower.came(5)
            unbroken(follower.seen)


class TestBody:
    @pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")  # aiohttp's, of any client
    @pytest.mark.parametrize("size", [20_000, 5_000_000])
    async def test_too_large(self, cell: Cell, size: int) -> None:
        """A request over the proxy's limit is a 413, told at once and not tried again."""
        async with cell.client(listener="narrow") as client:
            for document in (HELLO, ADD.replace("Add(", "Add($name: String, ")):
                variables = {"name": "x" * size, "key": name_of(cell, "large")}
                with pytest.raises(HTTPStatusError) as caught:
                    await client.query(document, variables=variables)
                assert (caught.value.status, caught.value.attempts) == (413, 1)
            assert (await client.query(HELLO)).data == {"hello": "Hello, world!"}
        cell.note("says: a body that is too large", caught.value.status)


class TestWrongPlace:
    async def test_a_page(self, cell: Cell) -> None:
        """Where there is a web page and no endpoint, its 405 or its HTML is told after one attempt."""
        key = name_of(cell, "page")
        async with cell.client(listener="page") as client:
            for document in (HELLO, ADD):
                with pytest.raises(HTTPStatusError, match="endpoint's path") as refused:
                    await client.query(document, variables={"key": key})
                assert (refused.value.status, refused.value.attempts) == (405, 1)
            cell.note("says: a web page, to a POST", refused.value.status)
            with pytest.raises(HTTPStatusError, match="endpoint's path") as refused:
                await client.subscribe(COUNT)
            assert (refused.value.status, refused.value.attempts) == (200, 1)
        async with cell.client(listener="page", settings={"retry": ONCE}) as client:
            with pytest.raises(InvalidResponseError, match="text/html") as page:
                await client.query(HELLO, method="get")
            assert "The application" in page.value.excerpt
        assert cell.server.executions(key) == 0


class TestTLS:
    async def test_private_authority(self, cell: Cell, authority: Authority) -> None:
        """HTTPS and WSS work with a private authority; without it nothing is sent, and it is told at once."""
        key = name_of(cell, "tls")
        tls = {"tls": {"ca_file": authority.ca}}
        async with (
            cell.client(listener="tls", settings=tls) as client,
            Follower(client, "stream") as follower,
        ):
            assert (await client.query(ADD, variables={"key": key})).data
            await follower.began(20)
            unbroken(follower.seen)
        async with cell.client(listener="tls") as stranger:
            for call in (
                stranger.query(HELLO),
                stranger.query(ADD, variables={"key": key}),
                stranger.subscribe(COUNT),
            ):
                with pytest.raises(TransportError, match="certificate") as caught:
                    await call
                assert (caught.value.attempts, caught.value.may_have_executed) == (1, False)
        assert cell.server.executions(key) == 1


class TestKeepAlive:
    async def test_closed_under_our_feet(self, cell: Cell) -> None:
        """Connections that the proxy closes between two calls cost no query, and run no mutation twice."""
        async with (
            cell.client(listener="hasty") as client,
            Load(client, cell.server, name_of(cell, "hasty")) as load,
        ):
            await load.went_on(300)
            await load.stop()
