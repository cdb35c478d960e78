"""Whose context a headers_provider runs in: an async one in nobody's, a sync one in its caller's."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Literal

import aiohttp
import httpx
import pytest
from opentelemetry import baggage, trace
from opentelemetry import context as telemetry
from telemetry_sdk import sdk_fixture  # noqa: F401 -- a fixture

from graphql_prod import ProductionClient, TransportError
from graphql_prod.testing import Answer, ScriptedServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from telemetry_sdk import Sdk

Backend = Literal["aiohttp", "httpx"]

HELLO = {"hello": "Hello, world!"}
USER: ContextVar[str] = ContextVar("user")
USERS = [f"user-{number}" for number in range(6)]


@pytest.fixture(params=["owned aiohttp", "owned httpx", "given aiohttp", "given httpx"])
def kind(request: pytest.FixtureRequest) -> str:
    """Each test that asks for it runs once a kind of session."""
    return str(request.param)


@contextlib.asynccontextmanager
async def client_of(
    url: str, provider: Any, kind: str = "owned aiohttp", **arguments: Any
) -> AsyncIterator[ProductionClient]:
    arguments = {"validate": False, "headers_provider": provider, **arguments}
    owner, backend = kind.split()
    async with contextlib.AsyncExitStack() as stack:
        if owner == "given":
            opened: Any = aiohttp.ClientSession() if backend == "aiohttp" else httpx.AsyncClient()
            arguments["session"] = await stack.enter_async_context(opened)
        else:
            arguments["backend"] = backend
        yield await stack.enter_async_context(ProductionClient(url, **arguments))


def tokens(server: ScriptedServer) -> list[str | None]:
    return [request.headers.get("Authorization") for request in server.requests]


async def as_user(user: str, client: ProductionClient) -> Any:
    """A call in a context of its own, that says who asks."""
    USER.set(user)
    return await client.query("{ hello }", headers={"X-User": user})


async def all_at_once(client: ProductionClient) -> list[Any]:
    return await asyncio.gather(*(as_user(user, client) for user in USERS), return_exceptions=True)


async def early() -> dict[str, str]:
    user = USER.get()
    await asyncio.sleep(0)
    return {"Authorization": user}


async def late() -> dict[str, str]:
    await asyncio.sleep(0)
    return {"Authorization": USER.get()}


async def given(user: str) -> dict[str, str]:
    await asyncio.sleep(0)
    return {"Authorization": user}


def closing() -> Awaitable[dict[str, str]]:
    """A plain function: what it looks at is in the coroutine that it returns."""
    return given(USER.get())


def task() -> Awaitable[dict[str, str]]:
    return asyncio.ensure_future(given(USER.get()))


def in_a_task() -> Awaitable[dict[str, str]]:
    return asyncio.ensure_future(late())


class Vault:
    async def __call__(self, refresh: bool = False) -> dict[str, str]:
        return {"Authorization": USER.get()}

    def plain(self) -> Awaitable[dict[str, str]]:
        return self()


async def hidden() -> dict[str, str]:
    try:
        return await late()
    except LookupError:
        raise RuntimeError("nobody is logged in")  # noqa: B904 -- as people write it


ASYNC: list[Callable[..., Any]] = [
    *(early, late, closing, task, in_a_task, Vault(), Vault().plain, hidden),
    functools.partial(early),
    lambda: early(),
]


class TestAsync:
    @pytest.mark.parametrize("provider", ASYNC, ids=range(len(ASYNC)))
    async def test_no_user_is_seen(
        self, server: ScriptedServer, provider: Callable[..., Any], kind: str
    ) -> None:
        """One that looks at a ContextVar fails, each time, with words; nobody is sent as somebody else."""
        async with client_of(server.url, provider, kind) as client:
            for _ in range(2):
                ended = await all_at_once(client)
                assert {type(each) for each in ended} == {TransportError}
                assert "with_options(headers_provider=" in str(ended[0])
                assert "ContextVar" in str(ended[0])
        assert server.requests == []

    async def test_cause(self, server: ScriptedServer) -> None:
        """The cause is the LookupError itself."""
        async with client_of(server.url, late) as client:
            with pytest.raises(TransportError) as caught:
                await as_user("a", client)
        assert type(caught.value.__cause__) is LookupError

    async def test_other_lookup_errors(self, server: ScriptedServer) -> None:
        """A key that is missing is another matter."""

        async def provider() -> dict[str, str]:
            return {"Authorization": dict[str, str]()["token"]}

        async with client_of(server.url, provider) as client:
            with pytest.raises(TransportError) as caught:
                await client.query("{ hello }")
        assert "ContextVar" not in str(caught.value)

    @pytest.mark.parametrize("plain", [False, True])
    async def test_default(self, server: ScriptedServer, kind: str, plain: bool) -> None:
        """A ContextVar with a default gives that, for everybody; renewals and retries too."""
        user: ContextVar[str] = ContextVar("user", default="nobody")

        async def provider(refresh: bool = False) -> dict[str, str]:
            name = user.get()
            await asyncio.sleep(0)
            return {"Authorization": f"{name} {user.get()} {refresh}"}

        def function(refresh: bool = False) -> Awaitable[dict[str, str]]:
            return provider(refresh)

        server.script(Answer.page(401))
        async with client_of(server.url, function if plain else provider, kind) as client:

            async def call(name: str) -> None:
                user.set(name)
                await client.query("{ hello }")

            await asyncio.gather(*(call(name) for name in USERS))
        assert set(tokens(server)) <= {"nobody nobody False", "nobody nobody True"}

    async def test_no_baggage(self, server: ScriptedServer) -> None:
        """Baggage of a caller does not reach the provider."""
        seen = []

        async def provider() -> dict[str, str]:
            seen.append((dict(baggage.get_all()), telemetry.get_value("mine")))
            return {}

        async with client_of(server.url, provider) as client:
            attached = telemetry.set_value("mine", 1, baggage.set_baggage("user", "alice"))
            token = telemetry.attach(attached)
            try:
                await client.query("{ hello }")
            finally:
                telemetry.detach(token)
        assert seen == [({}, None)]

    async def test_current_span(self, server: ScriptedServer, sdk: Sdk) -> None:
        """The span of the call that asks is the parent of what the provider does."""
        sdk.traces = True
        seen = []

        async def provider() -> dict[str, str]:
            await asyncio.sleep(0)
            seen.append(trace.get_current_span().get_span_context().span_id)
            return {}

        async with client_of(server.url, provider) as client:
            await client.query("{ hello }")
        assert len(seen) == 1
        assert seen[0] in {span.context.span_id for span in sdk.spans() if span.context is not None}

    async def test_nothing_comes_back(self, server: ScriptedServer) -> None:
        """What a provider sets is not seen by its caller, nor by the next one that asks."""
        found = []

        async def provider() -> dict[str, str]:
            found.append(USER.get("nobody"))
            USER.set("provider")
            return {}

        async with client_of(server.url, provider) as client:
            for _ in range(2):
                await client.query("{ hello }")
        assert found == ["nobody", "nobody"]
        assert USER.get("nobody") == "nobody"

    async def test_asked_once_for_all(self, server: ScriptedServer) -> None:
        """A plain function that returns a coroutine is one flight for all who wait, like any async one; it is
        found out once."""
        asked: list[str] = []

        async def later() -> dict[str, str]:
            asked.append("awaited")
            await asyncio.sleep(0)
            return {}

        def provider() -> Awaitable[dict[str, str]]:
            asked.append("asked")
            return later()

        async with client_of(server.url, provider) as client:
            await asyncio.gather(*(client.query("{ hello }") for _ in range(5)))
            assert asked == ["asked", "asked", "awaited"]
            await client.query("{ hello }")
        assert asked[3:] == ["asked", "awaited"]


class TestSync:
    async def test_callers_own(self, server: ScriptedServer, kind: str) -> None:
        """It sees its caller's ContextVars, however many call at once."""
        async with client_of(server.url, lambda: {"Authorization": USER.get()}, kind) as client:
            await all_at_once(client)
        assert sorted(filter(None, tokens(server))) == USERS
        assert all(r.headers["X-User"] == r.headers["Authorization"] for r in server.requests)

    async def test_renewals_of_each_user(self, server: ScriptedServer, kind: str) -> None:
        """All tokens expire at once: each user's is renewed, though another's was renewed before."""
        issued = dict.fromkeys(USERS, 1)

        def provider(refresh: bool = False) -> dict[str, str]:
            issued[USER.get()] += refresh
            return {"Authorization": f"{USER.get()} {issued[USER.get()]}"}

        server.script(*[Answer.page(401)] * len(USERS))
        async with client_of(server.url, provider, kind) as client:
            answers = await all_at_once(client)
        assert [answer.data for answer in answers] == [HELLO] * len(USERS)
        assert issued == dict.fromkeys(USERS, 2)
        assert all(r.headers["Authorization"].split()[0] == r.headers["X-User"] for r in server.requests)

    async def test_one_renewal_for_one_token(self, server: ScriptedServer) -> None:
        """Users of the same token: what one renewed is good for the others."""
        asked: list[bool] = []

        def provider(refresh: bool = False) -> dict[str, str]:
            asked.append(refresh)
            return {"Authorization": f"Bearer {sum(asked)}"}

        server.script(*[Answer.page(401)] * len(USERS))
        async with client_of(server.url, provider) as client:
            await all_at_once(client)
        assert sum(asked) == 1

    async def test_at_hand_or_not(self, server: ScriptedServer) -> None:
        """One function that has a token at hand, or has to wait for it: both answers are taken."""
        known: dict[str, str] = {}

        async def fetched() -> dict[str, str]:
            await asyncio.sleep(0)
            known["Authorization"] = f"Bearer {len(server.requests)}"
            return known

        def provider(refresh: bool = False) -> Any:
            return dict(known) if known and not refresh else fetched()

        server.script(Answer(), Answer.page(401))
        async with client_of(server.url, provider) as client:
            for _ in range(2):
                await client.query("{ hello }")
        assert tokens(server) == ["Bearer 0", "Bearer 0", "Bearer 2"]
