"""What the tests of ends share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from subscribing import (
    STARTS,
    STOPS,
    sent,
    until,
)

if TYPE_CHECKING:
    from graphql_prod import (
        ProductionClient,
    )
    from graphql_prod.testing import ScriptedServer


def idle(client: ProductionClient) -> None:
    """Nothing is held any more."""
    stats = client.stats()
    assert (stats.subscriptions, stats.sockets) == (0, 0)


async def idles(client: ProductionClient) -> None:
    """Soon nothing is held any more: a cancel is not held up by the close of its socket."""
    await until(lambda: client.stats().sockets == 0, lambda: client.stats())
    idle(client)


async def stopped_politely(server: ScriptedServer, subscriptions: int = 1) -> None:
    """Every subscription was ended by its owner: one message each, and a clean close."""
    await server.socket_count(0)
    assert sorted(sent(server, STOPS)) == sorted(sent(server, STARTS))
    assert len(sent(server, STOPS)) == subscriptions
    assert set(server.close_codes.values()) == {1000}
