"""An operator sees how a subscription is: connecting, subscribed, down or ended; as it happens."""

from __future__ import annotations

import asyncio
import time
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import pytest
from subscribing import Follower, client_of, until

from graphql_prod import ConfigurationError, SubscriptionClosedError, SubscriptionState

if TYPE_CHECKING:
    from subscribing import Backend, Mode

    from graphql_prod.testing import ScriptedServer

COUNT = "subscription Count($from: Int, $to: Int) { count(from: $from, to: $to) }"
WHO: ContextVar[str] = ContextVar("who", default="nobody")


@pytest.fixture(params=[False, True], ids=["alone", "shared"])
def share(request: pytest.FixtureRequest) -> bool:
    """Each test that asks for it runs with a socket of its own, and with a shared one."""
    return request.param  # type: ignore[no-any-return]


async def test_each_state_as_it_happens(
    counting: ScriptedServer, backend: Backend, mode: Mode, share: bool
) -> None:
    """From the first attempt to the end, with the close code, the attempt and the wait."""
    told: list[SubscriptionState] = []
    began = time.time()
    async with (
        client_of(counting.url, backend, share_connection=share) as client,
        Follower(client, mode, on_state=told.append) as follower,
    ):
        await follower.came()
        await counting.close_sockets(1012, "restart")
        await follower.went_on()
    statuses = [state.status for state in told]
    assert statuses == ["connecting", "subscribed", "down", "connecting", "subscribed", "ended"]
    down = told[2]
    assert (down.close_code, down.reason, down.attempt) == (1012, "restart", 0)
    assert down.next_in is not None
    assert 0 <= down.next_in <= 0.01
    assert [state.attempt for state in told if state.status == "connecting"] == [1, 1]
    moments = [state.since for state in told]
    assert moments == sorted(moments)
    assert began <= moments[0] <= moments[-1] <= time.time()


async def test_an_outage(counting: ScriptedServer, backend: Backend, mode: Mode) -> None:
    """The loss is told at once, each further attempt too, and the counts say that it is down."""
    told: list[SubscriptionState] = []
    async with (
        client_of(counting.url, backend) as client,
        Follower(client, mode, on_state=told.append) as follower,
    ):
        await follower.came()
        stopped = time.time()
        await counting.stop()
        await until(lambda: [state.status for state in told].count("down") >= 3)
        first = next(state for state in told if state.status == "down")
        assert first.since - stopped < 0.5
        assert client.stats().subscriptions_down == 1
        attempts = [state.attempt for state in told if state.status == "down"]
        assert attempts[:3] == [0, 1, 2]
        await counting.start()
        await follower.went_on()
        assert client.stats().subscriptions_down == 0


async def test_the_acknowledgements_payload(server: ScriptedServer, backend: Backend, mode: Mode) -> None:
    """What the server says when it acknowledges is in the state."""
    told: list[SubscriptionState] = []
    server.ack_payload = {"session": 7}
    async with (
        client_of(server.url, backend) as client,
        Follower(client, mode, on_state=told.append) as follower,
    ):
        await follower.came()
    (subscribed,) = [state for state in told if state.status == "subscribed"]
    assert subscribed.ack_payload == {"session": 7}


async def test_the_state_of_the_object(counting: ScriptedServer, backend: Backend) -> None:
    """``subscription.state`` without any callback."""
    async with client_of(counting.url, backend) as client:
        subscription = await client.subscribe(COUNT)
        assert subscription.state.status == "subscribed"
        await counting.stop()
        await until(lambda: subscription.state.status in ("down", "connecting"))
        await counting.start()
        await until(lambda: subscription.state.status == "subscribed")
        await subscription.unsubscribe_and_wait()
        last = subscription.state
        assert (last.status, last.reason) == ("ended", None)


async def test_the_end_has_a_reason(counting: ScriptedServer, backend: Backend, mode: Mode) -> None:
    """A fatal close code is the last state."""
    told: list[SubscriptionState] = []
    async with (
        client_of(counting.url, backend) as client,
        Follower(client, mode, on_state=told.append) as follower,
    ):
        await follower.came()
        await counting.close_sockets(4403, "Forbidden")
        assert isinstance(await follower.end(), SubscriptionClosedError)
    assert (told[-1].status, told[-1].close_code, told[-1].reason) == ("ended", 4403, "Forbidden")


async def test_a_callback_that_fails(
    counting: ScriptedServer, backend: Backend, mode: Mode, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged and counted; the subscription goes on."""

    def failing(state: SubscriptionState) -> None:
        raise ZeroDivisionError(state.status)

    async with (
        client_of(counting.url, backend) as client,
        Follower(client, mode, on_state=failing) as follower,
    ):
        await follower.came(3)
        assert client.stats().callback_failures >= 2
    assert "on_state of a subscription failed with ZeroDivisionError" in caplog.text


async def test_a_coroutine_function(counting: ScriptedServer, backend: Backend, mode: Mode) -> None:
    """States come in order, however long it takes; in the context of whoever subscribed."""
    told: list[tuple[str, str]] = []
    gate = asyncio.Event()

    async def slow(state: SubscriptionState) -> None:
        await gate.wait()
        told.append((state.status, WHO.get()))

    WHO.set("alice")
    async with (
        client_of(counting.url, backend) as client,
        Follower(client, mode, on_state=slow) as follower,
    ):
        await follower.came()
        await counting.close_sockets(1012, "restart")
        await follower.went_on()
        assert told == []
        gate.set()
        await until(lambda: len(told) >= 5)
    names = ["connecting", "subscribed", "down", "connecting", "subscribed"]
    assert told[:5] == [(name, "alice") for name in names]


async def test_one_that_never_returns(counting: ScriptedServer, backend: Backend) -> None:
    """It does not keep the client from closing, and is no task that is left."""
    stuck = asyncio.Event()

    async def endless(_: SubscriptionState) -> None:
        stuck.set()
        await asyncio.Event().wait()

    async with client_of(counting.url, backend) as client:
        await client.subscribe(COUNT, on_state=endless)
        await stuck.wait()


@pytest.mark.parametrize("given", [3, "down"])
async def test_what_is_no_callback(server: ScriptedServer, given: Any) -> None:
    """Refused when it is given."""
    async with client_of(server.url) as client:
        with pytest.raises(ConfigurationError, match="on_state"):
            await client.subscribe(COUNT, on_state=given)
        with pytest.raises(ConfigurationError, match="restart"):
            await client.subscribe(COUNT, restart=given)
