"""The idempotency key: fresh for each call, the same on each attempt."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiographql.client import GraphQLRequest
from retrying import MARKED, MUTATION, QUERY, SEVERAL, TAKEN_BACK

from graphql_prod.testing import Answer, ScriptedServer

if TYPE_CHECKING:
    from graphql_prod import (
        ProductionClient,
    )


# --- the idempotency key --------------------------------------------------------------------------


def keys(server: ScriptedServer, name: str = "Idempotency-Key") -> list[str | None]:
    return [request.headers.get(name) for request in server.requests]


async def test_the_key_is_fresh_for_each_call_and_the_same_on_each_attempt(
    owner: ProductionClient, server: ScriptedServer
) -> None:
    """The server can tell a repeated attempt from a second call."""
    server.script(Answer.reset("before"), Answer.page(503), Answer(), Answer.page(500))
    view = MARKED[1].view(owner)
    await view.query(MUTATION)
    await view.query(MUTATION)
    first, second = keys(server)[:3], keys(server)[3:]
    assert len(first) == 3
    assert len(second) == 2
    assert len(set(first)) == len(set(second)) == 1
    assert first[0]
    assert second[0]
    assert first[0] != second[0]


async def test_a_query_carries_no_key(owner: ProductionClient, server: ScriptedServer) -> None:
    """There is nothing to be idempotent about."""
    await MARKED[1].view(owner).query(QUERY)
    await MARKED[1].view(owner).query(SEVERAL, operation="Read")
    assert keys(server) == [None, None]


async def test_a_key_of_the_callers_is_kept(simple: ProductionClient, server: ScriptedServer) -> None:
    """Who has a key of his own sends that one, in whatever spelling."""
    server.script(Answer.page(503))
    await MARKED[1].view(simple).query(MUTATION, headers={"idempotency-KEY": "mine"})
    assert keys(server) == ["mine", "mine"]


async def test_the_request_of_the_caller_stays_as_it_is(
    simple: ProductionClient, server: ScriptedServer
) -> None:
    """A request that is used again gets a new key: the old one was not written into it."""
    request = GraphQLRequest(MUTATION)
    await MARKED[1].view(simple).query(request)
    await MARKED[1].view(simple).query(request)
    first, second = keys(server)
    assert first != second
    assert request.headers == {}


async def test_what_is_taken_back_carries_no_key(owner: ProductionClient, server: ScriptedServer) -> None:
    """A key would tell the server that the mutation is repeated; one of the caller's is sent as it is."""
    await TAKEN_BACK[1].view(owner).query(MUTATION)
    await TAKEN_BACK[1].view(owner).query(MUTATION, headers={"idempotency-KEY": "mine"})
    assert keys(server) == [None, "mine"]


async def test_a_mark_alone_sends_no_key(simple: ProductionClient, server: ScriptedServer) -> None:
    """The header is sent by those who named one."""
    await simple.with_options(idempotent=True).query(MUTATION)
    assert keys(server) == [None]
