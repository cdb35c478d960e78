"""with_options(headers_provider=…): a view whose credentials, renewals and shared sockets are its own."""

from __future__ import annotations

import asyncio
import gc
import time
import weakref
from typing import TYPE_CHECKING, Any, Literal

import pytest
from subscribing import COUNT, STARTS, Follower, client_of, sent

from graphql_prod import ConfigurationError, HTTPStatusError, ProductionClient
from graphql_prod.testing import Answer

if TYPE_CHECKING:
    from collections.abc import Callable

    from graphql_prod.testing import ScriptedServer

Backend = Literal["aiohttp", "httpx"]

HELLO = {"hello": "Hello, world!"}


class Issuer:
    """Tokens of one user; a renewal gives the next one."""

    def __init__(self, user: str) -> None:
        self.user = user
        self.number = 1
        self.asked: list[bool] = []

    async def __call__(self, refresh: bool = False) -> dict[str, str]:
        self.asked.append(refresh)
        await asyncio.sleep(0)
        self.number += refresh
        return {"Authorization": f"{self.user} {self.number}"}


class Sync(Issuer):
    def __call__(self, refresh: bool = False) -> dict[str, str]:  # type: ignore[override]
        self.asked.append(refresh)
        self.number += refresh
        return {"Authorization": f"{self.user} {self.number}"}


@pytest.fixture(params=[Issuer, Sync])
def issuer(request: pytest.FixtureRequest) -> Callable[[str], Issuer]:
    """Each test that asks for it runs with async providers, and with sync ones."""
    return request.param  # type: ignore[no-any-return]


def tokens(server: ScriptedServer) -> list[str | None]:
    return [request.headers.get("Authorization") for request in server.requests]


@pytest.mark.parametrize("wrong", [{"Authorization": "s3cr3t"}, "Bearer s3cr3t", 3, False])
def test_what_is_none(wrong: Any) -> None:
    """What cannot be called is refused when the view is made, without its value."""
    client = ProductionClient("http://h/graphql")
    with pytest.raises(ConfigurationError, match="headers_provider") as caught:
        client.with_options(headers_provider=wrong)
    assert "s3cr3t" not in str(caught.value)


async def test_queries(server: ScriptedServer, backend: Backend, issuer: Any) -> None:
    """Each view's own, whatever the client has; None leaves it as it is; a view of a view replaces it."""
    base, alice, bob = issuer("base"), issuer("alice"), issuer("bob")
    async with client_of(server.url, backend, objects={"headers_provider": base}) as client:
        view = client.with_options(headers_provider=alice)
        callers = (
            client,
            view,
            view.with_options(timeout=5, headers_provider=None),
            view.with_options(headers_provider=bob),
            client.with_options(timeout=5),
        )
        for caller in callers:
            await caller.query("{ hello }")
    assert tokens(server) == ["base 1", "alice 1", "alice 1", "bob 1", "base 1"]


async def test_a_client_without_one(server: ScriptedServer, backend: Backend, issuer: Any) -> None:
    """The client needs none, and gets none. Its own headers rank below the provider's, the view's above."""
    objects = {"headers": {"Authorization": "client", "X-A": "client"}}
    async with client_of(server.url, backend, objects=objects) as client:
        view = client.with_options(headers_provider=issuer("alice"), headers={"X-A": "view"})
        assert (await view.query("{ hello }")).data == HELLO
        await client.query("{ hello }")
    assert tokens(server) == ["alice 1", "client"]
    assert [request.headers["X-A"] for request in server.requests] == ["view", "client"]


@pytest.mark.parametrize("name", ["Authorization", "authorization"])
async def test_headers_of_the_view_beneath(
    counting: ScriptedServer, backend: Backend, issuer: Any, mode: Any, name: str
) -> None:
    """A provider that is named later comes before the headers of the view: nobody goes under its name."""
    async with client_of(counting.url, backend, objects={"headers": {"Authorization": "client"}}) as client:
        service = client.with_options(headers={name: "service", "X-A": "service"})
        alice = service.with_options(headers_provider=issuer("alice"))
        bob = alice.with_options(headers_provider=issuer("bob"))
        callers = (service, alice, bob, alice.with_options(headers={name: "own"}))
        for caller in callers:
            await caller.query("{ hello }")
            async with Follower(caller, mode, request=COUNT) as follower:
                await follower.came()
        together = service.with_options(headers_provider=issuer("alice"), headers={name: "own"})
        await together.query("{ hello }")
        await alice.query("{ hello }", headers={name: "call"})
    wanted = ["service", "alice 1", "bob 1", "own"]
    assert tokens(counting) == [*wanted, "own", "call"]
    assert [upgrade.headers["Authorization"] for upgrade in counting.upgrades] == wanted
    assert {request.headers["X-A"] for request in counting.requests} == {"service"}


async def test_renewals(server: ScriptedServer, backend: Backend, issuer: Any) -> None:
    """A refused token of one user is renewed with that user's provider, and asks nobody else."""
    base, alice, bob = issuer("base"), issuer("alice"), issuer("bob")
    server.script(Answer.page(401), Answer(), Answer.page(401))
    async with client_of(server.url, backend, objects={"headers_provider": base}) as client:
        one, two = client.with_options(headers_provider=alice), client.with_options(headers_provider=bob)
        for caller in (one, two, one):
            assert (await caller.query("{ hello }")).data == HELLO
    assert tokens(server) == ["alice 1", "alice 2", "bob 1", "bob 2", "alice 2"]
    assert (base.asked, alice.asked, bob.asked) == ([], [False, True, False], [False, True])


async def test_a_view_for_each_call(server: ScriptedServer, backend: Backend, issuer: Any) -> None:
    """Many users at once over one client: nobody's token is sent for another."""
    async with client_of(server.url, backend) as client:
        users = [f"user-{number}" for number in range(30)]
        await asyncio.gather(
            *(
                client.with_options(headers_provider=issuer(user), headers={"X-User": user}).query(
                    "{ hello }"
                )
                for user in users
            )
        )
    assert sorted(filter(None, tokens(server))) == sorted(f"{user} 1" for user in users)
    assert all(r.headers["Authorization"].startswith(r.headers["X-User"]) for r in server.requests)


async def test_introspection(server: ScriptedServer, backend: Backend, issuer: Any) -> None:
    """The introspection that a view's query begins carries the view's; of what it brings all have a part."""
    base, alice, bob = issuer("base"), issuer("alice"), issuer("bob")
    async with ProductionClient(server.url, headers_provider=base, backend=backend) as client:
        view = client.with_options(headers_provider=alice)
        assert (await view.query("{ hello }")).data == HELLO
        await client.query("{ hello }")
        await client.with_options(headers_provider=bob).introspect()
        await client.with_options(headers_provider=bob).get_schema(refresh=True)
        await client.get_schema(refresh=True)
    assert ["__schema" in (r.query or "") for r in server.requests] == [True, False, False, True, True, True]
    assert tokens(server) == ["alice 1", "alice 1", "base 1", "bob 1", "bob 1", "base 1"]


async def test_introspection_by_a_program_of_its_own(server: ScriptedServer) -> None:
    """A client whose ``introspect`` was replaced asks that, for views too."""
    issued = Issuer("alice")
    async with ProductionClient(server.url) as client:
        original, asked = client.introspect, []

        async def introspect(headers: dict[str, str] | None = None) -> Any:
            asked.append(headers)
            return await original(headers)

        client.introspect = introspect  # type: ignore[method-assign]
        await client.with_options(headers_provider=issued).query("{ hello }")
    assert len(asked) == 1


@pytest.mark.parametrize("share", [False, True])
async def test_subscriptions(
    counting: ScriptedServer, backend: Backend, issuer: Any, share: bool, mode: Any
) -> None:
    """A view's subscriptions carry its own, and share a socket only with those of the same view."""
    base, alice = issuer("base"), issuer("alice")
    async with client_of(
        counting.url, backend, objects={"headers_provider": base}, share_connection=share, linger=0.0
    ) as client:
        view = client.with_options(headers_provider=alice)
        followers = []
        for caller in (client, view, view.with_options(timeout=9), client):
            followers.append(Follower(caller, mode, request=COUNT))
            await followers[-1].began()
        carried = [upgrade.headers["Authorization"] for upgrade in counting.upgrades]
        assert carried == (["base 1", "alice 1"] if share else ["base 1", "alice 1", "alice 1", "base 1"])
        if share:
            assert [len(sent(counting, STARTS, connection)) for connection in (1, 2)] == [2, 2]
        for each in followers:
            await each.stop()


async def test_renewal_of_a_subscription(counting: ScriptedServer, backend: Backend, issuer: Any) -> None:
    """A socket that refuses is renewed with the view's provider."""
    base, alice = issuer("base"), issuer("alice")
    async with client_of(counting.url, backend, objects={"headers_provider": base}) as client:
        view = client.with_options(headers_provider=alice)
        async with Follower(view, "stream") as follower:
            await follower.came()
            await counting.close_sockets(4401)
            await follower.went_on()
    assert [u.headers["Authorization"] for u in counting.upgrades] == ["alice 1", "alice 2"]
    assert (base.asked, alice.asked) == ([], [False, True])


async def test_a_failing_provider(server: ScriptedServer, issuer: Any) -> None:
    """A view whose credentials are refused fails alone."""
    server.always(Answer.page(401), "Mine")
    async with client_of(server.url, objects={"headers_provider": issuer("base")}) as client:
        with pytest.raises(HTTPStatusError):
            await client.with_options(headers_provider=issuer("alice")).query("query Mine { hello }")
        assert (await client.query("{ hello }")).data == HELLO


def test_cheap() -> None:
    """A view with a provider costs microseconds: one may be made for each call."""
    client, provider = ProductionClient("http://h/graphql"), Issuer("alice")

    def seconds() -> float:
        started = time.perf_counter()
        for _ in range(1000):
            client.with_options(headers_provider=provider)
        return time.perf_counter() - started

    assert min(seconds() for _ in range(5)) < 0.5


@pytest.mark.parametrize("share", [False, True])
async def test_ten_thousand_views(server: ScriptedServer, issuer: Any, share: bool) -> None:
    """Nothing is kept of a view that nobody uses any more, nor of its provider."""
    async with client_of(server.url, share_connection=share, linger=0.0) as client:

        async def use(number: int) -> weakref.ref[Any]:
            provider = issuer(f"user-{number}")
            view = client.with_options(headers_provider=provider)
            if number % 100 == 0:
                await view.query("{ hello }")
            if number % 1000 == 0:
                subscription = await view.subscribe("subscription { count(to: 0) }")
                await subscription.unsubscribe_and_wait()
            return weakref.ref(provider)

        left = [await use(number) for number in range(10_000)]
        for _ in range(100):
            gc.collect()
            if client.stats().sockets == 0 and not any(ref() is not None for ref in left[:-1]):
                break
            await asyncio.sleep(0.01)
        assert sum(ref() is not None for ref in left[:-1]) == 0
