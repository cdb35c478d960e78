"""Who shares a socket where a headers_provider gives each user other headers, also after a reconnect."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import pytest
from subscribing import COUNT, STARTS, Follower, client_of, onward, sent, until

from graphql_prod import SubscriptionLimitError, TransportError

if TYPE_CHECKING:
    from subscribing import Backend, Mode, Protocol

    from graphql_prod.testing import ScriptedServer

USER: ContextVar[str] = ContextVar("user")


class Tokens:
    """What a sync provider gives each user; a renewal counts up."""

    def __init__(self, **held: str) -> None:
        self.held = held
        self.asked: list[tuple[str, bool]] = []

    def __call__(self, refresh: bool = False) -> dict[str, str]:
        user = USER.get()
        self.asked.append((user, refresh))
        if refresh:
            self.held[user] += "+"
        return {"Authorization": self.held[user]}


def shared(url: str, backend: Backend, provider: Any, **policy: Any) -> Any:
    policy = {"share_connection": True, "linger": 0.0, **policy}
    return client_of(url, backend, objects={"headers_provider": provider}, **policy)


def follow(
    client: Any, user: str, mode: Mode, protocol: Protocol | None = None, **arguments: Any
) -> Follower:
    """A subscription of a user, who has a context of their own."""
    token = USER.set(user)
    try:
        return Follower(client, mode, protocol, **{"headers": None, **arguments})
    finally:
        USER.reset(token)


async def stop_all(*followers: Follower) -> None:
    await asyncio.gather(*(each.stop() for each in followers))


def riders(server: ScriptedServer) -> dict[str, int]:
    """How many subscriptions were begun with which credentials."""
    found: dict[str, int] = {}
    for number, upgrade in enumerate(server.upgrades, 1):
        token = upgrade.headers["Authorization"]
        found[token] = found.get(token, 0) + len(sent(server, STARTS, number))
    return found


async def test_each_user_has_a_socket(
    counting: ScriptedServer, backend: Backend, protocol: Protocol, mode: Mode
) -> None:
    """Alice and Bob never share one; two subscriptions of Alice do."""
    tokens = Tokens(alice="A", bob="B")
    async with shared(counting.url, backend, tokens) as client:
        followers = [follow(client, user, mode, protocol) for user in ("alice", "bob", "alice", "bob")]
        for each in followers:
            await each.began()
        assert riders(counting) == {"A": 2, "B": 2}
        assert len(counting.upgrades) == 2
        await stop_all(*followers)


async def test_one_token_for_all(counting: ScriptedServer, backend: Backend, mode: Mode) -> None:
    """Users for whom the provider gives the same share one socket; it is asked once a subscription."""
    tokens = Tokens(alice="T", bob="T")
    async with shared(counting.url, backend, tokens) as client:
        followers = [follow(client, user, mode) for user in ("alice", "bob")]
        for each in followers:
            await each.began()
        assert riders(counting) == {"T": 2}
        assert len(tokens.asked) == 2
        await stop_all(*followers)


async def test_an_async_provider_is_shared(counting: ScriptedServer, backend: Backend) -> None:
    """It knows no user, so a token that is new each time does not keep subscriptions apart."""
    asked = 0

    async def provider() -> dict[str, str]:
        nonlocal asked
        asked += 1
        return {"Authorization": str(asked)}

    for given in (provider, lambda: provider()):
        before = len(counting.upgrades)
        async with shared(counting.url, backend, given) as client:
            followers = [follow(client, user, "stream") for user in ("alice", "bob")]
            for each in followers:
                await each.began()
            assert len(counting.upgrades) == before + 1
            await stop_all(*followers)


async def test_reconnect_in_the_subscribers_context(
    counting: ScriptedServer, backend: Backend, protocol: Protocol, mode: Mode
) -> None:
    """After a loss each socket carries the token that its own user has now, though others reconnect too."""
    tokens = Tokens(alice="A1", bob="B1")
    async with shared(counting.url, backend, tokens) as client:
        followers = [follow(client, user, mode, protocol) for user in ("alice", "bob", "alice", "bob")]
        for each in followers:
            await each.began()
        tokens.held.update(alice="A2", bob="B2")
        counting.reset_sockets()
        for each in followers:
            await each.went_on()
        assert riders(counting) == {"A1": 2, "B1": 2, "A2": 2, "B2": 2}
        assert len(counting.upgrades) == 4
        await stop_all(*followers)


async def test_users_who_were_one(
    counting: ScriptedServer, backend: Backend, protocol: Protocol, mode: Mode
) -> None:
    """Guests share a socket until they have tokens of their own: after a loss each goes on with theirs, from
    where it stopped, and is told of the gap."""
    tokens = Tokens(alice="guest", bob="guest", carol="guest")
    async with shared(counting.url, backend, tokens) as client:
        followers = [
            follow(client, user, mode, protocol, resume=onward) for user in ("alice", "bob", "alice", "carol")
        ]
        for each in followers:
            await each.began()
        assert riders(counting) == {"guest": 4}
        tokens.held.update(alice="A", bob="B", carol="B")
        counting.reset_sockets()
        for each in followers:
            await each.went_on()
            assert each.values == list(range(len(each.values)))
            assert (each.gaps[0].attempts > 0, each.gaps[0].down_for > 0) == (True, True)
        assert riders(counting) == {"guest": 4, "A": 2, "B": 2}
        assert client.stats().sockets == 2
        await stop_all(*followers)
        await until(lambda: client.stats().sockets == 0)


async def test_who_joins_later(counting: ScriptedServer, backend: Backend, mode: Mode) -> None:
    """A socket that goes on with another token is found under that, and no more under the old one."""
    tokens = Tokens(alice="A1", bob="A1")
    async with shared(counting.url, backend, tokens) as client:
        first = follow(client, "alice", mode)
        await first.began()
        tokens.held["alice"] = "A2"
        counting.reset_sockets()
        await first.went_on()
        second, other = follow(client, "alice", mode), follow(client, "bob", mode)
        await second.began()
        await other.began()
        assert riders(counting) == {"A1": 2, "A2": 2}
        assert [u.headers["Authorization"] for u in counting.upgrades] == ["A1", "A2", "A1"]
        await stop_all(first, second, other)


async def test_the_first_has_left(counting: ScriptedServer, backend: Backend, mode: Mode) -> None:
    """Who began a socket and left is not asked for: a reconnect carries the token of those who are there."""
    tokens = Tokens(alice="guest", bob="guest")
    async with shared(counting.url, backend, tokens) as client:
        alice, bob = follow(client, "alice", mode), follow(client, "bob", mode)
        await alice.began()
        await bob.began()
        await alice.stop()
        tokens.held.update(alice="A", bob="B")
        counting.reset_sockets()
        await bob.went_on()
        assert [u.headers["Authorization"] for u in counting.upgrades] == ["guest", "B"]
        await bob.stop()


async def test_renewal_of_one(counting: ScriptedServer, backend: Backend, mode: Mode) -> None:
    """A refused token is renewed for its own user; the other one's socket goes on."""
    tokens = Tokens(alice="A", bob="B")
    async with shared(counting.url, backend, tokens) as client:
        alice, bob = follow(client, "alice", mode), follow(client, "bob", mode)
        await alice.began()
        await bob.began()
        await counting.close_sockets(4401)
        await alice.went_on()
        await bob.went_on()
        assert riders(counting) == {"A": 1, "B": 1, "A+": 1, "B+": 1}
        assert sorted(user for user, refresh in tokens.asked if refresh) == ["alice", "bob"]
        await stop_all(alice, bob)


async def test_no_socket_left(counting: ScriptedServer, backend: Backend, mode: Mode) -> None:
    """Who would need a socket more than there may be ends with the error that says so; the others go on."""
    tokens = Tokens(alice="guest", bob="guest")
    settings = {"pool": {"subscriptions": 1}}
    async with shared(counting.url, backend, tokens) as _:
        pass
    async with client_of(
        counting.url, backend, objects={"headers_provider": tokens}, settings=settings, share_connection=True
    ) as client:
        alice, bob = follow(client, "alice", mode), follow(client, "bob", mode)
        await alice.began()
        await bob.began()
        tokens.held.update(alice="A", bob="B")
        counting.reset_sockets()
        await alice.went_on()
        assert isinstance(await bob.end(), SubscriptionLimitError)
        await stop_all(alice, bob)


@pytest.mark.parametrize("share", [False, True])
async def test_a_provider_that_fails(
    counting: ScriptedServer, backend: Backend, mode: Mode, share: bool
) -> None:
    """A sync provider that does not know the user ends the subscription at once, with words of ours."""
    async with shared(counting.url, backend, Tokens(), share_connection=share) as client:
        for headers in ({}, {"A": "b"}):
            follower = follow(client, "nobody", mode, request=COUNT, headers=headers)
            error = await follower.end()
            assert isinstance(error, TransportError)
            assert "headers_provider failed with a KeyError" in str(error)
        await until(lambda: client.stats().sockets == 0)
    assert counting.upgrades == []


@pytest.mark.parametrize("late", [False, True])
async def test_a_callable_payload(
    counting: ScriptedServer, backend: Backend, mode: Mode, protocol: Protocol, late: bool
) -> None:
    """On a socket of its own it runs in the context of who subscribed; on a shared one in an
    empty context, so that nobody comes by another's."""

    async def later() -> dict[str, str]:
        await asyncio.sleep(0)
        return {"user": USER.get()}

    def payload() -> Any:
        return later() if late else {"user": USER.get()}

    def sent_payloads() -> list[str]:
        inits = [m.message for m in counting.messages if m.message["type"] == "connection_init"]
        return [each["payload"]["user"] for each in inits]

    async with client_of(counting.url, backend) as client:
        followers = [
            follow(client, user, mode, protocol, connection_init_payload=payload) for user in ("alice", "bob")
        ]
        for each in followers:
            await each.began()
        counting.reset_sockets()
        for each in followers:
            await each.went_on()
        assert sorted(sent_payloads()) == ["alice", "alice", "bob", "bob"]
        await stop_all(*followers)
    upgrades = len(counting.upgrades)
    async with client_of(counting.url, backend, share_connection=True, linger=0.0) as client:
        for user in ("alice", "bob"):
            error = await follow(client, user, mode, protocol, connection_init_payload=payload).end()
            assert isinstance(error, TransportError)
            assert "ContextVar" in str(error)
    assert len(counting.upgrades) == upgrades


async def test_refused_in_band(counting: ScriptedServer, backend: Backend, mode: Mode) -> None:
    """Subscriptions of Alice's are refused on a socket that they share: renewed once, for her alone, and both
    go on over one other socket."""
    tokens = Tokens(alice="A", bob="B")
    async with shared(counting.url, backend, tokens) as client:
        followers = [follow(client, user, mode) for user in ("alice", "alice", "bob")]
        for each in followers:
            await each.began()
        refusal = {"message": "no", "extensions": {"code": "UNAUTHENTICATED"}}
        for key in sent(counting, STARTS, 1):
            await counting.sockets[0].send({"type": "error", "id": key, "payload": [refusal]})
        for each in followers[:2]:
            await each.went_on()
        assert [u.headers["Authorization"] for u in counting.upgrades] == ["A", "B", "A+"]
        assert followers[2].gaps == []
        await stop_all(*followers)
