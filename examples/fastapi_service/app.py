"""A FastAPI service over a GraphQL upstream: ``uvicorn --factory app:create_app``. See README.md."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from typing import Any

from fastapi import APIRouter, FastAPI, HTTPException, Request

from graphql_prod import (
    ClientClosedError,
    HTTPStatusError,
    InvalidResponseError,
    ProductionClient,
    RequestTimeoutError,
    SubscriptionGap,
    TransportError,
)
from graphql_prod.integrations.starlette import health_routes, lifespan

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

log = logging.getLogger("service")
router = APIRouter()


@router.get("/hello")
async def hello(request: Request, name: str = "world") -> dict[str, str]:
    """Ask the upstream. Its failures become a 503 that quotes nothing of theirs."""
    try:
        response = await request.state.client.query(HELLO, variables={"name": name})
    except UPSTREAM_FAILED as error:
        failed = type(error).__name__
        log.warning("/hello: %s after %d attempts", failed, error.attempts)
        raise HTTPException(503, f"the upstream gave no answer: {failed}") from error
    if response.errors:
        raise HTTPException(503, "the upstream answered with errors")
    return {"hello": response.data["hello"]}


@router.get("/latest")
async def latest(request: Request) -> dict[str, int]:
    """The subscription's last value."""
    if "count" not in request.state.latest:
        raise HTTPException(503, "no value has come yet")
    return {"count": request.state.latest["count"]}


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


@contextlib.asynccontextmanager
async def following(client: ProductionClient) -> AsyncIterator[dict[str, Any]]:
    """The application's own lifespan: a subscription in the background, and what handlers need."""
    latest: dict[str, int] = {}
    task = asyncio.create_task(follow(client, latest))

    # Not cancelled on leaving: the client's shutdown ends the stream after the values that wait in it.
    @client.on_shutdown(phase="after")
    async def end_of_following() -> None:
        task.cancel()  # for the wait between two streams
        await asyncio.wait({task})

    yield {"client": client, "latest": latest}


def create_app() -> FastAPI:
    # Without this, what the client says (retries, gaps, the report of its shutdown) goes nowhere.
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    client = ProductionClient.from_config()
    app = FastAPI(lifespan=lifespan(client, inner=lambda _: following(client)))
    app.include_router(router)
    app.router.routes.extend(health_routes(client))
    return app
