"""Callbacks and resume run in the context of whoever subscribed, on shared sockets too."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import pytest
from subscribing import COUNT, client_of, until

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiographql.client import GraphQLSubscriptionEvent
    from subscribing import Backend, Protocol

    from graphql_prod import ProductionClient
    from graphql_prod.testing import ScriptedServer

USER: ContextVar[str] = ContextVar("user", default="nobody")
USERS = ("alice", "bob", "carol")


class Subscriber:
    """Somebody whose callbacks note in whose context they run."""

    def __init__(self, user: str, *, late: bool) -> None:
        self.user = user
        self.late = late
        self.found: dict[str, list[str]] = {}

    def _note(self, what: str) -> Any:
        self.found.setdefault(what, []).append(USER.get())
        return self._note_later(what) if self.late else None

    async def _note_later(self, what: str) -> None:
        await asyncio.sleep(0)
        self.found[what].append(USER.get())

    async def noted(self, what: str, times: int) -> None:
        await until(lambda: len(self.found.get(what, ())) >= times)

    def on_data(self, _: object) -> Any:
        return self._note("on_data")

    def on_gap(self, _: object) -> Any:
        return self._note("on_gap")

    def on_error(self, _: object) -> Any:
        return self._note("on_error")

    def resume(self, _: GraphQLSubscriptionEvent | None, variables: dict[str, Any]) -> Any:
        noting = self._note("resume")
        if noting is not None:
            return self._resume_later(noting, variables)
        USER.set("whom a resume made up")
        return variables

    async def _resume_later(self, noting: Any, variables: Mapping[str, Any]) -> Mapping[str, Any]:
        await noting
        USER.set("whom a resume made up")
        return variables

    async def subscribe(self, client: ProductionClient, protocol: Protocol, **arguments: Any) -> Any:
        USER.set(self.user)
        return await client.subscribe(
            COUNT,
            on_data=self.on_data,
            on_gap=self.on_gap,
            on_error=self.on_error,
            resume=self.resume,
            protocols=protocol,
            **arguments,
        )


@pytest.mark.parametrize("share", [False, True])
@pytest.mark.parametrize("executor", [False, True])
@pytest.mark.parametrize("late", [False, True])
async def test_callbacks_and_resume(
    counting: ScriptedServer, backend: Backend, protocol: Protocol, share: bool, executor: bool, late: bool
) -> None:
    """Each subscriber's own, through two reconnects and the server's error; nothing that one of them sets
    reaches another, or the next one."""
    subscribers = [Subscriber(user, late=late) for user in USERS]
    policy: dict[str, Any] = {"share_connection": share, "callback_executor": executor, "linger": 0.0}
    async with client_of(counting.url, backend, **policy) as client:
        tasks = [asyncio.create_task(each.subscribe(client, protocol)) for each in subscribers]
        subscriptions = await asyncio.gather(*tasks)
        for gaps in (0, 1, 2):
            for each in subscribers:
                await each.noted("on_gap", gaps * (1 + late))
                await each.noted("on_data", len(each.found.get("on_data", ())) + 1)
            if gaps < 2:
                counting.reset_sockets()
        assert len(counting.upgrades) == (3 if share else 9)
        await counting.close_sockets(4400)
        await asyncio.gather(*(asyncio.wait({each.task}) for each in subscriptions))
        await until(lambda: all(len(each.found["on_error"]) == 1 + late for each in subscribers))
    assert USER.get() == "nobody"
    for each in subscribers:
        assert each.found.keys() == {"on_data", "on_gap", "on_error", "resume"}
        assert len(each.found["resume"]) == 2 * (1 + late)
        assert {user for users in each.found.values() for user in users} == {each.user}


async def test_resume_of_a_stream(counting: ScriptedServer, backend: Backend) -> None:
    """A stream's ``resume`` runs in the context of who iterates."""
    found = []

    def resume(_: object, variables: dict[str, Any]) -> dict[str, Any]:
        found.append(USER.get())
        return variables

    async def follow(client: ProductionClient, user: str) -> None:
        USER.set(user)
        async for event in client.stream(COUNT, resume=resume, gaps=True):
            if not hasattr(event, "payload"):
                return

    async with client_of(counting.url, backend, share_connection=True, linger=0.0) as client:
        tasks = [asyncio.create_task(follow(client, user)) for user in USERS]
        await until(lambda: client.stats().events > 10 and client.stats().subscriptions == len(USERS))
        counting.reset_sockets()
        await asyncio.gather(*tasks)
    assert sorted(found) == sorted(USERS)
