"""A ``resume`` that never answers ends its subscription within ``ack_timeout``, and says so."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from subscribing import Follower, client_of, until

from graphql_prod import SubscriptionClosedError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from conftest import Backend
    from subscribing import Mode, Protocol

    from graphql_prod.testing import ScriptedServer


async def never(_: object, __: Mapping[str, Any]) -> dict[str, Any]:
    await asyncio.Event().wait()
    raise AssertionError


async def test_it_ends_with_an_error_that_names_it(
    counting: ScriptedServer, backend: Backend, mode: Mode, protocol: Protocol
) -> None:
    """Not silent for ever: the subscription looks active, and would get nothing more."""
    async with client_of(counting.url, backend, ack_timeout=0.2) as client:
        async with Follower(client, mode, protocol, resume=never) as follower:
            await follower.began(2)
            counting.reset_sockets()
            error = await follower.end()
            assert isinstance(error, SubscriptionClosedError)
            assert error.close_reason == "resume timed out"
            assert "its resume gave no variables within 0.2 s" in str(error)
            assert "subscriptions.ack_timeout" in str(error)
            if mode == "subscribe":
                await until(lambda: follower.errors, lambda: "on_error")
        await until(lambda: client.stats().sockets == 0, client.stats)


async def test_nobody_else_on_the_connection_waits_or_ends(
    counting: ScriptedServer, backend: Backend, mode: Mode
) -> None:
    """The limit is that of one subscription."""
    async with (
        client_of(counting.url, backend, ack_timeout=0.2, share_connection=True) as client,
        Follower(client, mode, resume=never) as stuck,
        Follower(client, mode) as other,
    ):
        await stuck.began(1)
        await other.began(1)
        counting.reset_sockets()
        await other.went_on()
        assert isinstance(await stuck.end(), SubscriptionClosedError)
        await other.came(3)


async def test_without_a_limit_it_may_take_its_time(counting: ScriptedServer, backend: Backend) -> None:
    """``ack_timeout=None`` is no limit here either."""
    asked, answer = asyncio.Event(), asyncio.Event()

    async def slow(_: object, variables: Mapping[str, Any]) -> Mapping[str, Any]:
        asked.set()
        await answer.wait()
        return variables

    async with (
        client_of(counting.url, backend, ack_timeout=None) as client,
        Follower(client, "subscribe", resume=slow) as follower,
    ):
        await follower.began(1)
        counting.reset_sockets()
        await asked.wait()
        answer.set()
        await follower.went_on()
