"""Tokens that expire, at servers that nobody here wrote: each refuses a stale one as its users do."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from aiographql.client import GraphQLRequestException
from processes import LEGACY, MODERN
from stage import ADD, HELLO, Cell
from subscribing import COUNT, Follower, onward

from graphql_prod import HTTPStatusError, SubscriptionClosedError, SubscriptionGap

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from aiographql.client import GraphQLSubscriptionEvent
    from subscribing import Protocol

pytestmark = [pytest.mark.timeout(150), pytest.mark.parametrize("via", ["none"])]

PYTHON = ("strawberry", "ariadne")
ON_GRAPHQL_WS = ("apollo", "yoga", "graphql-ws")
TRANSPORT_WS = "subscriptions-transport-ws"


@dataclass(frozen=True)
class Way:
    """A way to refuse a stale token: the place (see the servers), and what it is called in the table.

    :ivar policy: the setting without which nobody can know what the server means.
    """

    place: str
    called: str
    peers: tuple[str, ...] = (*PYTHON, *ON_GRAPHQL_WS, TRANSPORT_WS)
    protocols: tuple[Protocol, ...] = (MODERN, LEGACY)
    policy: dict[str, Any] = field(default_factory=dict)

    def policy_for(self, cell: Cell, protocol: Protocol) -> dict[str, Any]:
        # Ariadne's newer handler closes with 1000 and without a word when on_connect raises.
        if self.place == "false" and (cell.peer.name, protocol) == ("ariadne", MODERN):
            return {"refused_close_codes": {1000, 4401, 4403}}
        return self.policy


JAVASCRIPT = (*ON_GRAPHQL_WS, TRANSPORT_WS)
AT_CONNECT = (
    Way("upgrade", "at the upgrade", JAVASCRIPT),
    Way("upgrade 401", "at the upgrade, by a denial response", PYTHON),
    Way("upgrade 403", "at the upgrade, by a close before the accept", PYTHON),
    Way("false", "by onConnect, as its documentation says"),
    Way("throw", "by onConnect, which throws `jwt expired`", JAVASCRIPT),
    Way("close 4401 Unauthorized", "by onConnect, which closes with 4401"),
    Way(
        "close 4500 Internal server error",
        "by onConnect, which throws, in production",
        ON_GRAPHQL_WS,
        policy={"refused_close_codes": {4401, 4403, 4500}},
    ),
    Way("subscribe", "by onSubscribe or onOperation", JAVASCRIPT),
    Way("resolver", "by the resolver or a permission"),
    Way("generator", "by the generator, before its first event"),
)
# What servers close a live socket with when its token has expired. None: they cut it.
EXPIRES = (
    "4401 Unauthorized",
    "4403 Forbidden",
    '4400 {"server_error_msg":"4400: Could not verify JWT: JWTExpired"}',
    "4500 jwt expired",
    "1000 token expired",
    "1008 Invalid or expired token",
    "1001",  # says nothing: the next connection is refused
)


class Tokens:
    """A provider that holds a token until it is asked for a new one."""

    def __init__(self) -> None:
        self.newest = 1
        self.asked: list[bool] = []
        self._held = 1

    async def __call__(self, refresh: bool = False) -> dict[str, str]:
        self.asked.append(refresh)
        if refresh:
            self._held = self.newest
        return {"Authorization": f"Bearer {self._held}"}

    @property
    def renewals(self) -> int:
        return self.asked.count(True)


def errors_of(event: GraphQLSubscriptionEvent) -> list[Any]:
    """The errors that an event carries."""
    payload: Any = event.payload
    return list(payload.errors)


class Lenient(Follower):
    """One that takes an event with errors, and goes on."""

    refusals = 0

    async def _take(self, event: GraphQLSubscriptionEvent | SubscriptionGap) -> None:
        if isinstance(event, SubscriptionGap) or not errors_of(event):
            await super()._take(event)
        else:
            self.refusals += 1


def ways(cell: Cell, all_: tuple[Way, ...]) -> list[tuple[Way, Protocol]]:
    return [
        (way, protocol)
        for way in all_
        if cell.peer.name in way.peers
        for protocol in cell.protocols
        if protocol in way.protocols
    ]


@pytest.fixture
async def cell(cell: Cell) -> AsyncIterator[Cell]:
    """A cell whose server lets all pass, in the end."""
    yield cell
    await cell.server.say("token off")


async def words_without_renewal(cell: Cell, way: Way, protocol: Protocol) -> str:
    """How the refusal ends a subscription that has no other token."""
    async with cell.client(protocol, connect_attempts=1, max_reconnects=0) as client:
        view = client.with_options(headers={"Authorization": "Bearer 1"})
        events = view.stream(COUNT, variables={"from": 0, "to": 3}, protocols=protocol)
        try:
            seen = [errors_of(event) async for event in events]
        except SubscriptionClosedError as error:
            status = getattr(error.__cause__, "status", None)
            return f"{status or error.close_code or '`connection_error`'}"
        except HTTPStatusError as error:
            return str(error.status)
        except GraphQLRequestException:
            return "`error`"
    assert len(seen) == 1, f"{way.called}: {seen}"
    assert seen[0], f"{way.called}: {seen}"
    return "an event with errors, `complete`"


class TestSubscriptions:
    async def test_stale_at_first(self, cell: Cell) -> None:
        """A subscription whose first token is stale begins with a new one: one renewal and no gap."""
        for way, protocol in ways(cell, AT_CONNECT):
            tokens, what = Tokens(), f"{way.called}, {protocol}"
            tokens.newest = 2
            await cell.server.say(f"token 2 {way.place}")
            policy = way.policy_for(cell, protocol)
            needs = "; needs `refused_close_codes`" if policy else ""
            said = await words_without_renewal(cell, way, protocol)
            cell.note(f"says: refused {what}", f"{said}{needs}")
            refusals = cell.server.lines.count(f"refused {way.place}")
            async with (
                cell.client(protocol, headers_provider=tokens, **policy) as client,
                Follower(client, "stream", protocol, resume=onward) as follower,
            ):
                await follower.began(3)
            assert follower.values[:3] == [0, 1, 2], what
            assert not follower.gaps, what
            assert tokens.renewals == 1, f"{what}: {tokens.asked}"
            assert cell.server.lines.count(f"refused {way.place}") == refusals + 1, what

    @pytest.mark.parametrize("how", EXPIRES)
    async def test_closed_in_mid_stream(self, cell: Cell, how: str) -> None:
        """A socket that is closed since its token has expired: one renewal, one gap, no event missing."""
        code, _, reason = how.partition(" ")
        for protocol in cell.protocols:
            tokens, place = Tokens(), "close 4401 Unauthorized"
            await cell.server.say(f"token 1 {place}")
            async with (
                cell.client(protocol, headers_provider=tokens) as client,
                Follower(client, "stream", protocol, resume=onward) as follower,
            ):
                await follower.began(3)
                tokens.newest = 2
                refusals = cell.server.lines.count(f"refused {place}")
                await cell.server.say(f"token 2 {place}")
                await cell.server.say(f"expire {how}")
                await follower.went_on()
                await follower.came(3)
            assert follower.values == list(range(len(follower.values))), protocol
            [gap] = follower.gaps
            assert (gap.close_code, gap.close_reason or "") == (int(code), reason), protocol
            assert tokens.renewals == 1, f"{protocol}: {tokens.asked}"
            # Only one that said nothing of it may have been tried with the old token.
            assert cell.server.lines.count(f"refused {place}") == refusals + (not reason), protocol

    async def test_shared_in_mid_stream(self, cell: Cell) -> None:
        """Subscriptions that share a socket share its renewal too, and each is told its gap."""
        for protocol in cell.protocols:
            tokens = Tokens()
            await cell.server.say("token 1 false")
            async with contextlib.AsyncExitStack() as stack:
                client = await stack.enter_async_context(
                    cell.client(protocol, headers_provider=tokens, share_connection=True)
                )
                starts = (0, 10_000, 20_000)
                followers = [
                    await stack.enter_async_context(
                        Follower(client, "subscribe", protocol, variables={"from": start}, resume=onward)
                    )
                    for start in starts
                ]
                for follower in followers:
                    await follower.began(3)
                tokens.newest = 2
                await cell.server.say("token 2 false")
                await cell.server.say("expire 4403 Forbidden")
                for follower in followers:
                    await follower.went_on()
                    await follower.came(3)
            for start, follower in zip(starts, followers, strict=True):
                assert follower.values == list(range(start, start + len(follower.values))), protocol
                assert [gap.close_code for gap in follower.gaps] == [4403], protocol
            assert tokens.renewals == 1, f"{protocol}: {tokens.asked}"

    async def test_in_band_in_mid_stream(self, cell: Cell) -> None:
        """A generator that throws since the token has expired: one renewal, one gap, no event missing."""
        for protocol in cell.protocols:
            tokens = Tokens()
            await cell.server.say("token 1 generator")
            async with (
                cell.client(protocol, headers_provider=tokens) as client,
                Lenient(client, "stream", protocol, resume=onward) as follower,
            ):
                await follower.began(3)
                tokens.newest = 2
                await cell.server.say("token 2 generator")
                await follower.went_on()
                await follower.came(3)
            assert follower.values == list(range(len(follower.values))), protocol
            assert len(follower.gaps) == 1, protocol
            assert tokens.renewals == 1, f"{protocol}: {tokens.asked}"
            said = "an event with errors, `complete`" if follower.refusals else "`error`"
            cell.note(f"says: refused by the generator, in mid-stream, {protocol}", said)


class TestCalls:
    @pytest.mark.parametrize("place", ["code", "status"])
    async def test_stale(self, cell: Cell, place: str) -> None:
        """A query with a stale token, answered with a code in a 200 or with a 401, is asked again once."""
        tokens = Tokens()
        tokens.newest = 2
        await cell.server.say(f"token 2 {place}")
        refusals = cell.server.lines.count(f"refused {place}")
        async with cell.client(headers_provider=tokens) as client:
            assert (await client.query(HELLO)).data == {"hello": "Hello, world!"}
            assert (await client.query(HELLO)).data == {"hello": "Hello, world!"}
        assert tokens.asked == [False, True, False]
        assert cell.server.lines.count(f"refused {place}") == refusals + 1

    async def test_a_mutation_with_a_stale_token(self, cell: Cell) -> None:
        """A mutation that a 401 has kept out is sent again with a new token, and runs once."""
        tokens, key = Tokens(), f"stale-{cell.backend}"
        tokens.newest = 2
        before = cell.server.executions(key)
        await cell.server.say("token 2 status")
        async with cell.client(headers_provider=tokens) as client:
            answer = await client.query(ADD, variables={"key": key})
            assert answer.data
        assert tokens.asked == [False, True]
        assert cell.server.executions(key) == before + 1
