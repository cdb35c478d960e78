"""Starlette and FastAPI: ``lifespan`` for the clients' life, ``health_routes`` for probes.

    client = ProductionClient.from_config()
    app = FastAPI(lifespan=lifespan(client))
    app.router.routes.extend(health_routes(client))

Signals are the server's: uvicorn and its like finish their requests, then leave the lifespan.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

try:
    from starlette.responses import JSONResponse
    from starlette.routing import Route
except ImportError as _missing:
    raise ImportError(
        "graphql_prod.integrations.starlette needs starlette: pip install 'graphql-prod[starlette]'"
    ) from _missing

from graphql_prod.errors import ConfigurationError
from graphql_prod.integrations import _shared

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from starlette.requests import Request
    from starlette.types import Lifespan

    from graphql_prod.client import ProductionClient
    from graphql_prod.integrations._shared import Factory


def lifespan(*clients: ProductionClient | Factory, inner: Lifespan[Any] | None = None) -> Lifespan[Any]:
    """A lifespan for ``Starlette(lifespan=…)`` and ``FastAPI(lifespan=…)`` that owns the clients.

    Starting: the clients are entered, then ``inner``. Leaving: ``inner`` first, then the clients are shut
    down within their ``shutdown.deadline``; several at the same time, under the longest one of theirs. Left
    by an exception or a cancel, ``inner``'s failing start-up among them, the clients are cut at once.

    :param clients: clients, or functions that make one. A client is closed with its application and stays
        so; a function makes another one when the application is started again. Give :func:`health_routes` the
        same function.
    :param inner: the application's own lifespan; its state is passed on. None: there is none.
    :raises ConfigurationError: no client, something else in a client's place, or an ``inner`` that cannot
        be called. A closed client is refused at start-up, with its :class:`ClientClosedError`.
    """
    source = _shared.Source(clients)
    if inner is not None and not callable(inner):
        raise ConfigurationError(f"inner must be a lifespan, not {type(inner).__name__}")

    @contextlib.asynccontextmanager
    async def owning(app: Any) -> AsyncGenerator[Any, None]:
        try:
            async with await _shared.entered(source.begin()) as stack:
                yield None if inner is None else await stack.enter_async_context(inner(app))
        finally:
            source.end()

    return owning


def health_routes(
    *clients: ProductionClient | Factory, ready: str = "/readyz", live: str = "/livez", details: bool = False
) -> list[Route]:
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

    async def readiness(_: Request) -> JSONResponse:
        return _response(await _shared.readiness(source.clients, details=details))

    async def liveness(_: Request) -> JSONResponse:
        return _response(_shared.liveness(source.clients))

    return [
        Route(ready, readiness, include_in_schema=False),
        Route(live, liveness, include_in_schema=False),
    ]


def _response(answer: _shared.Answer) -> JSONResponse:
    return JSONResponse(answer.body, answer.status, _shared.NO_STORE)
