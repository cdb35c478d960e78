"""Calls to an upstream that is ill: most are not sent, and say so at once."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Any

import pytest
from clocks import Later
from logged import facts_of
from subscribing import Follower, until
from telemetry_sdk import client_of, owner_fixture, sdk_fixture  # noqa: F401 -- the fixtures

from graphql_prod import (
    AdmissionRejectedError,
    CallError,
    HTTPStatusError,
    InvalidResponseError,
    ProductionClient,
    RetryPolicy,
    clock,
)
from graphql_prod.testing import Answer, ScriptedServer

if TYPE_CHECKING:
    from telemetry_sdk import Backend, Owner, Sdk

HI, ADD = "query Hi { hello }", "mutation Add { increment }"
ON = {"mode": "adaptive"}
ONCE = RetryPolicy(attempts=1)


async def failed(client: ProductionClient, times: int = 5) -> None:
    """So many calls that fail."""
    for _ in range(times):
        with pytest.raises(CallError):
            await client.query(HI)


@pytest.mark.parametrize(
    "answer",
    [Answer.page(503), Answer.disconnect(), Answer.graphql(500, errors=["x"]), Answer.hang()],
    ids=["page", "disconnect", "answer", "hang"],
)
async def test_opens_and_closes(
    server: ScriptedServer, backend: Backend, owner: Owner, answer: Answer, caplog: pytest.LogCaptureFixture
) -> None:
    """Five failed calls open it; the next is not sent, and says so within a moment; a success closes it."""
    timeout = {"attempt": 0.1}
    with clock.using(Later()) as later:
        assert isinstance(later, Later)
        async with client_of(server.url, backend, owner, admission=ON, retry=ONCE, timeout=timeout) as client:
            await _opens_and_closes(client, server, answer, later)
    told = [facts_of(each)["state"] for each in caplog.records if "state" in facts_of(each)]
    assert told == ["open"]


async def _opens_and_closes(
    client: ProductionClient, server: ScriptedServer, answer: Answer, later: Later
) -> None:
    server.always(answer)
    for _ in range(5):
        with contextlib.suppress(CallError):
            assert (await client.query(HI)).errors
    assert client.stats().admission is not None
    assert client.stats().admission.state == "open"  # type: ignore[union-attr]
    requests = len(server.requests)
    began = time.monotonic()
    with pytest.raises(AdmissionRejectedError) as caught:
        await client.query(ADD)
    assert time.monotonic() - began < 0.1
    assert (caught.value.attempts, caught.value.may_have_executed) == (0, False)
    assert caught.value.state == "open"
    assert len(server.requests) == requests
    server.always(None)
    later.ahead += 5.1
    assert (await client.query(HI)).data
    assert client.stats().admission.state == "closed"  # type: ignore[union-attr]
    assert (await client.query(ADD)).data


@pytest.mark.parametrize(
    "answer",
    [
        Answer.page(404),
        Answer(status=429, body="no"),
        Answer.graphql(errors=["x"]),
        Answer.login_page(),
        Answer.redirect("/elsewhere"),
    ],
    ids=["404", "429", "errors", "login page", "redirect"],
)
async def test_what_is_no_failure_of_the_server(server: ScriptedServer, answer: Answer) -> None:
    """Refusals, errors of GraphQL and pages of others: the server is there."""
    server.always(answer)
    async with client_of(server.url, admission=ON, retry=ONCE) as client:
        for _ in range(40):
            with contextlib.suppress(HTTPStatusError, InvalidResponseError):
                await client.query(HI)
        assert client.stats().admission.state == "closed"  # type: ignore[union-attr]


async def test_cancels_of_callers(server: ScriptedServer, backend: Backend) -> None:
    """A caller that leaves says nothing of the server."""
    server.always(Answer.hang())
    async with client_of(server.url, backend, admission=ON, retry=ONCE) as client:
        calls = [asyncio.create_task(client.query(HI)) for _ in range(30)]
        await server.received(30)
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        server.always(None)
        assert (await client.query(HI)).data
        health = client.stats().admission
        assert health is not None
        assert (health.state, health.rejected) == ("closed", 0)


async def test_the_total_in_mid_attempt(server: ScriptedServer) -> None:
    """A call that waits in vain for its whole time has been failed by the server."""
    server.always(Answer.hang())
    async with client_of(server.url, admission=ON, retry=ONCE, timeout={"total": 0.1}) as client:
        await failed(client)
        assert client.stats().admission.state == "open"  # type: ignore[union-attr]


async def test_attempts_of_one_call_count_once(server: ScriptedServer) -> None:
    """Four calls with four attempts each do not open it, the fifth does."""
    retry = RetryPolicy(wait_initial=0, wait_max=0, budget=None)
    server.always(Answer.page(503))
    async with client_of(server.url, admission={**ON, "min_requests": 100}, retry=retry) as client:
        await failed(client, 4)
        assert client.stats().admission.state == "closed"  # type: ignore[union-attr]
        await failed(client, 1)
        assert client.stats().admission.state == "open"  # type: ignore[union-attr]


async def test_a_retry_that_is_not_admitted(server: ScriptedServer, backend: Backend) -> None:
    """It raises the last failure, with the reason, and no retry is sent."""
    server.always(Answer.page(503))
    async with client_of(server.url, backend, admission=ON, retry=ONCE) as client:
        await failed(client, 4)  # with so few, nothing is left to chance
        requests = len(server.requests)
        view = client.with_options(retry=RetryPolicy(wait_initial=0, wait_max=0, budget=None))
        with pytest.raises(HTTPStatusError, match="Admission holds further attempts back") as caught:
            await view.query(HI)
        assert (caught.value.status, caught.value.attempts) == (503, 1)
        assert len(server.requests) == requests + 1


async def test_probes_and_credentials_pass(server: ScriptedServer, backend: Backend) -> None:
    """``ready()`` asks the server itself, whatever admission thinks."""
    server.always(Answer.page(503))
    async with client_of(server.url, backend, admission=ON, retry=ONCE, health={"min_interval": 0}) as client:
        await failed(client)
        assert not await client.ready()
        server.always(None)
        assert await client.ready()


async def test_by_hand(server: ScriptedServer, backend: Backend, owner: Owner) -> None:
    """``isolate()`` sends nothing, also where the mode is off, on views too; ``restore()`` takes it back."""
    async with client_of(server.url, backend, owner) as client:
        view = client.with_options(timeout=5)
        assert client.stats().admission is None
        client.isolate("moving house")
        for caller in (client, view):
            with pytest.raises(AdmissionRejectedError, match="moving house") as caught:
                await caller.query(ADD)
            assert caught.value.state == "isolated"
        with pytest.raises(AdmissionRejectedError):
            await client.subscribe("subscription { count }")
        ready = await client.ready()
        assert not ready
        assert "isolated: moving house" in str(ready.reason)
        stats = client.stats().admission
        assert stats is not None
        assert (stats.state, stats.rejection, stats.reason) == ("isolated", 1.0, "moving house")
        assert server.requests == []
        view.restore()
        assert (await client.query(ADD)).data
        assert client.stats().admission is None


async def test_reconnects_ask_too(counting: ScriptedServer, backend: Backend) -> None:
    """A subscription that has lost its connection waits while calls are held back, and comes back after."""
    async with (
        client_of(counting.url, backend, subscriptions={"wait_initial": 0.01}) as client,
        Follower(client, "stream") as follower,
    ):
        await follower.came()
        client.isolate("moving house")
        upgrades = len(counting.upgrades)
        await counting.close_sockets(1012, "restart")
        await until(lambda: client.stats().subscriptions_down == 1)
        await until(lambda: client.stats().admission and client.stats().admission.rejected)  # type: ignore[union-attr]
        assert len(counting.upgrades) == upgrades
        client.restore()
        await follower.went_on()


async def test_reconnects_count(server: ScriptedServer, backend: Backend) -> None:
    """What becomes of attempts to connect says how the server is."""
    server.tick = 0.002
    subscriptions = {"wait_initial": 0.001, "wait_max": 0.001}
    async with (
        client_of(server.url, backend, admission=ON, subscriptions=subscriptions) as client,
        Follower(client, "stream") as follower,
    ):
        await follower.came()
        await server.stop()
        await until(lambda: client.stats().subscriptions_down == 1)
        await server.start()
        await follower.went_on()
        health = client.stats().admission
        assert health is not None
        assert health.state == "closed"


async def test_what_is_told(sdk: Sdk, server: ScriptedServer) -> None:
    """A metric and a hook count what was not sent; a hook hears of the states."""
    told: list[tuple[str, Any]] = []

    class Watching:
        def on_rejected(self, record: Any) -> None:
            told.append(("rejected", record.reason))

        def on_state(self, record: Any) -> None:
            told.append(("state", record.reason))

    server.always(Answer.page(503))
    objects = {"hooks": Watching()}
    async with client_of(server.url, admission=ON, retry=ONCE, objects=objects) as client:
        await failed(client)
        with pytest.raises(AdmissionRejectedError):
            await client.query(HI)
        client.isolate("moving house")
        with pytest.raises(AdmissionRejectedError):
            await client.query(HI)
        client.restore()
    assert told == [
        ("state", "admission open"),
        ("rejected", "admission"),
        ("state", "admission isolated"),
        ("rejected", "isolated"),
        ("state", "admission closed"),
    ]
    assert sum(sdk.metric("admission.rejections").values()) == 2
