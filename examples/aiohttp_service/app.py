"""An aiohttp service over a GraphQL upstream: ``python app.py``. See README.md."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from typing import TYPE_CHECKING

from aiohttp import web

from graphql_prod import (
    ClientClosedError,
    HTTPStatusError,
    InvalidResponseError,
    ProductionClient,
    RequestTimeoutError,
    SubscriptionGap,
    TransportError,
)
from graphql_prod.integrations.aiohttp_web import cleanup_ctx, health_routes

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

HELLO = "query Hello($name: String!) { hello(name: $name) }"
COUNT = "subscription Count { count }"
AGAIN = 5.0  # seconds until an ended subscription is begun anew
UPSTREAM_FAILED = (
    TransportError,
    RequestTimeoutError,
    HTTPStatusError,
    InvalidResponseError,
    ClientClosedError,
)
CLIENT = web.AppKey("CLIENT", ProductionClient)
LATEST = web.AppKey("LATEST", dict[str, int])

log = logging.getLogger("service")
routes = web.RouteTableDef()


@routes.get("/hello")
async def hello(request: web.Request) -> web.Response:
    """Ask the upstream. Its failures become a 503 that quotes nothing of theirs."""
    name = request.query.get("name", "world")
    try:
        response = await request.app[CLIENT].query(HELLO, variables={"name": name})
    except UPSTREAM_FAILED as error:
        failed = type(error).__name__
        log.warning("/hello: %s after %d attempts", failed, error.attempts)
        return unavailable(f"the upstream gave no answer: {failed}")
    if response.errors:
        return unavailable("the upstream answered with errors")
    return web.json_response({"hello": response.data["hello"]})


@routes.get("/latest")
async def latest(request: web.Request) -> web.Response:
    """The subscription's last value."""
    if "count" not in request.app[LATEST]:
        return unavailable("no value has come yet")
    return web.json_response({"count": request.app[LATEST]["count"]})


def unavailable(reason: str) -> web.Response:
    return web.json_response({"detail": reason}, status=503)


async def follow(client: ProductionClient, latest: dict[str, int]) -> None:
    """Keep the last value, until the client is shut down. A failure is logged, and begun anew."""
    while client.state == "open":
        try:
            async with contextlib.aclosing(client.stream(COUNT, gaps=True)) as events:
                async for event in events:
                    if isinstance(event, SubscriptionGap):
                        log.warning("values are missing: down for %.1f s", event.down_for)
                    else:
                        latest["count"] = event.json["payload"]["data"]["count"]
        except ClientClosedError:
            return
        except Exception:
            log.exception("the subscription failed; it begins anew in %.0f s", AGAIN)
        if client.state == "open":
            await asyncio.sleep(AGAIN)


async def following(app: web.Application) -> AsyncIterator[None]:
    """The application's own cleanup context: a subscription in the background."""
    client = app[CLIENT]
    task = asyncio.create_task(follow(client, app[LATEST]))

    # Not cancelled on leaving: the client's shutdown ends the stream after the values that wait in it.
    @client.on_shutdown(phase="after")
    async def end_of_following() -> None:
        task.cancel()  # for the wait between two streams
        await asyncio.wait({task})

    yield


def create_app() -> web.Application:
    app = web.Application()
    app[CLIENT] = ProductionClient.from_config()
    app[LATEST] = {}
    app.cleanup_ctx.append(cleanup_ctx(app[CLIENT]))
    app.cleanup_ctx.append(following)  # after the client's: cleaned up before it
    app.add_routes(routes)
    app.add_routes(health_routes(app[CLIENT]))
    return app


if __name__ == "__main__":
    # Without this, what the client says (retries, gaps, the report of its shutdown) goes nowhere.
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    web.run_app(
        create_app(),
        host="0.0.0.0",
        port=int(os.environ.get("PORT", "8000")),
        shutdown_timeout=float(os.environ.get("SHUTDOWN_TIMEOUT", "7.5")),
    )
