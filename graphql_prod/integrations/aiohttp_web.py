"""aiohttp's server: ``cleanup_ctx`` for the clients' life, ``health_routes`` for probes.

    client = ProductionClient.from_config()
    app.cleanup_ctx.append(cleanup_ctx(client))
    app.add_routes(health_routes(client))

Signals are the server's: ``web.run_app`` finishes its requests, then cleans up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

from graphql_prod.integrations import _shared

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from graphql_prod.client import ProductionClient
    from graphql_prod.integrations._shared import Factory


def cleanup_ctx(
    *clients: ProductionClient | Factory,
) -> Callable[[web.Application], AsyncGenerator[None, None]]:
    """A cleanup context for ``app.cleanup_ctx.append(…)`` that owns the clients.

    Append it before those that use the clients: aiohttp cleans up in reverse order. Cleaning up shuts the
    clients down within their ``shutdown.deadline``; several at the same time, under the longest one of
    theirs. aiohttp tells no cleanup context what went wrong: ``runner.cleanup()`` after a start-up that
    failed is a graceful shutdown too, and only a context that was dropped (``run_app`` after such a
    start-up) cuts at once.

    :param clients: clients, or functions that make one. A client is closed with its application and stays
        so; a function makes another one when the application is started again. Give :func:`health_routes` the
        same function.
    :raises ConfigurationError: no client, or something else in a client's place. A closed client is
        refused at start-up, with its :class:`ClientClosedError`.
    """
    source = _shared.Source(clients)

    async def owning(_: web.Application) -> AsyncGenerator[None, None]:
        try:
            async with await _shared.entered(source.begin()):
                yield
        finally:
            source.end()

    return owning


def health_routes(
    *clients: ProductionClient | Factory, ready: str = "/readyz", live: str = "/livez", details: bool = False
) -> list[web.RouteDef]:
    """Routes for the probes of an orchestrator, for GET and HEAD.

    Readiness asks all clients at once and takes 2 s at most (``PROBE``): 200, or 503 with the reasons.
    Liveness is 503 once a client is closed, and costs no network. Neither is cached.

    :param ready: the path of readiness.
    :param live: the path of liveness.
    :param details: whether the reasons name hosts and ports, and say more than a word of a fixed list
        (``draining``, ``timeout``, ``unreachable``, ``status``, ``errors``, ``cancelled``, ``failed``). For
        probes that nobody from outside can reach.
    :raises ConfigurationError: no client, or something else in a client's place.
    """
    source = _shared.Source(clients)

    async def readiness(_: web.Request) -> web.Response:
        return _response(await _shared.readiness(source.clients, details=details))

    async def liveness(_: web.Request) -> web.Response:
        return _response(_shared.liveness(source.clients))

    return [web.get(ready, readiness), web.get(live, liveness)]


def _response(answer: _shared.Answer) -> web.Response:
    return web.json_response(answer.body, status=answer.status, headers=_shared.NO_STORE)
