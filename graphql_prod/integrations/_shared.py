"""What every framework needs: clients that live as long as the application, and answers to probes."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, NamedTuple

from graphql_prod import ConfigurationError, ProductionClient, ShutdownCoordinator
from graphql_prod.urls import host_of

if TYPE_CHECKING:
    from collections.abc import Iterable

Clients = tuple[ProductionClient, ...]

NO_STORE = {"Cache-Control": "no-store"}


class Answer(NamedTuple):
    """What a probe is told: an HTTP status, and an object for JSON."""

    status: int
    body: dict[str, Any]


def require_clients(clients: Iterable[object]) -> Clients:
    """The clients, at least one.

    :raises ConfigurationError: there is none, or something else is among them.
    """
    checked: list[ProductionClient] = []
    for client in clients:
        if not isinstance(client, ProductionClient):
            raise ConfigurationError(f"expected a ProductionClient, not {type(client).__name__}")
        checked.append(client)
    if not checked:
        raise ConfigurationError("expected at least one ProductionClient")
    return tuple(checked)


async def entered(clients: Clients) -> contextlib.AsyncExitStack:
    """The clients, entered; leaving what is returned shuts them down, several of them under one deadline.

    Left by an exception or a cancel it cuts at once, as ``async with client`` does.

    :raises ClientClosedError: one of them is closed; those before it are closed too.
    """
    # No generator: a loop that ends closes all of them at once, and one inside another would fail.
    async with contextlib.AsyncExitStack() as stack:
        for client in clients:
            await stack.enter_async_context(client)
        if len(clients) > 1:
            coordinator = await stack.enter_async_context(ShutdownCoordinator(longest_deadline(clients)))
            for client in clients:
                coordinator.register(client)
        return stack.pop_all()


def longest_deadline(clients: Clients) -> float | None:
    """The longest ``shutdown.deadline``, in seconds; None, no limit, if one of them has none."""
    deadlines = [client.config.shutdown.deadline for client in clients]
    return None if None in deadlines else max(deadline for deadline in deadlines if deadline is not None)


async def readiness(clients: Clients, *, details: bool) -> Answer:
    """200 if every client reaches its server, else 503 with the reasons. Asks all at once.

    :param details: whether whoever asks may hear which servers there are; else of a fixed list of words.
    """
    found = await asyncio.gather(*(client.ready() for client in clients))
    reasons = [
        {"host": host_of(client.endpoint), "reason": ready.reason} if details else {"reason": ready.kind}
        for client, ready in zip(clients, found, strict=True)
        if not ready
    ]
    return Answer(503, {"ready": False, "reasons": reasons}) if reasons else Answer(200, {"ready": True})


def liveness(clients: Clients) -> Answer:
    """200 unless one of the clients is closed. No network."""
    alive = all(client.alive() for client in clients)
    return Answer(200 if alive else 503, {"alive": alive})
