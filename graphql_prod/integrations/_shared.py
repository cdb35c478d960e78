"""What every framework needs: clients that live as long as the application, and answers to probes."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from graphql_prod import ConfigurationError, ProductionClient, ShutdownCoordinator
from graphql_prod.integrations._signals import ServerSignals
from graphql_prod.urls import host_of

if TYPE_CHECKING:
    from collections.abc import Iterable

Clients = tuple[ProductionClient, ...]
Factory = Callable[[], ProductionClient]
"""Makes a client, anew each time that the application starts."""

NO_STORE = {"Cache-Control": "no-store"}


class Answer(NamedTuple):
    """What a probe is told: an HTTP status, and an object for JSON."""

    status: int
    body: dict[str, Any]


class Source:
    """Where the clients of an application come from: they are given, or made when it starts.

    :ivar clients: those that serve now; None while the application does not run.
    """

    def __init__(self, given: Iterable[object]) -> None:
        self._given = _checked(given)
        self._made: dict[int, ProductionClient] = _made

    def begin(self) -> Clients:
        """The clients of an application that starts.

        :raises ConfigurationError: a factory made something else.
        """
        return tuple(each if isinstance(each, ProductionClient) else _begun(each) for each in self._given)

    def end(self) -> None:
        """The application has ended: factories make others for the next one."""
        for each in self._given:
            self._made.pop(id(each), None)

    @property
    def clients(self) -> Clients | None:
        """The clients of the application that runs; None before it starts and after its end."""
        found = [
            each if isinstance(each, ProductionClient) else self._made.get(id(each)) for each in self._given
        ]
        return None if None in found else tuple(each for each in found if each is not None)


_made: dict[int, ProductionClient] = {}
"""What each factory has made for the application that runs; routes for probes look here."""


def _begun(factory: Factory) -> ProductionClient:
    made = factory()
    if inspect.iscoroutine(made):
        made.close()
    if not isinstance(made, ProductionClient):
        raise ConfigurationError(
            f"the factory {getattr(factory, '__qualname__', factory)!s} must return a ProductionClient, "
            f"not {type(made).__name__}"
        )
    _made[id(factory)] = made
    return made


def _checked(given: Iterable[object]) -> tuple[ProductionClient | Factory, ...]:
    """Clients, or factories of clients, at least one.

    :raises ConfigurationError: there is none, or something else is among them.
    """
    checked: list[ProductionClient | Factory] = []
    for each in given:
        if not isinstance(each, ProductionClient) and (not callable(each) or isinstance(each, type)):
            raise ConfigurationError(
                f"expected a ProductionClient, or a function that makes one, not {type(each).__name__}"
            )
        checked.append(each)
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
        signals = ServerSignals(clients)
        signals.install()
        stack.callback(signals.restore)
        if len(clients) > 1:
            coordinator = await stack.enter_async_context(ShutdownCoordinator(longest_deadline(clients)))
            for client in clients:
                coordinator.register(client)
        return stack.pop_all()


def longest_deadline(clients: Clients) -> float | None:
    """The longest ``shutdown.deadline``, in seconds; None, no limit, if one of them has none."""
    deadlines = [client.config.shutdown.deadline for client in clients]
    return None if None in deadlines else max(deadline for deadline in deadlines if deadline is not None)


async def readiness(clients: Clients | None, *, details: bool) -> Answer:
    """200 if every client reaches its server, else 503 with the reasons. Asks all at once.

    :param details: whether whoever asks may hear which servers there are; else of a fixed list of words.
    """
    if clients is None:
        return Answer(503, {"ready": False, "reasons": [{"reason": "not started"}]})
    found = await asyncio.gather(*(client.ready() for client in clients))
    reasons = [
        {"host": host_of(client.endpoint), "reason": ready.reason} if details else {"reason": ready.kind}
        for client, ready in zip(clients, found, strict=True)
        if not ready
    ]
    return Answer(503, {"ready": False, "reasons": reasons}) if reasons else Answer(200, {"ready": True})


def liveness(clients: Clients | None) -> Answer:
    """200 unless one of the clients is closed. No network. An application that has not started is alive."""
    alive = clients is None or all(client.alive() for client in clients)
    return Answer(200 if alive else 503, {"alive": alive})
