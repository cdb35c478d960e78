"""A service whose responses are the events of a subscription: ``app`` for ASGI, ``main()`` for aiohttp."""

import os
import sys
from collections.abc import AsyncIterator

from aiohttp import web
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.routing import Route

from graphql_prod import ProductionClient
from graphql_prod.integrations import aiohttp_web
from graphql_prod.integrations.starlette import health_routes, lifespan

client = ProductionClient(os.environ["UPSTREAM"], validate=False)


async def lines() -> AsyncIterator[bytes]:
    """A line an event, and a last one at the end."""
    async for event in client.stream("subscription { count(to: 1000000) }"):
        yield f"data: {event.json['payload']['data']['count']}\n\n".encode()
    yield b"event: bye\n\n"


async def events(_: Request) -> StreamingResponse:
    """Server-sent events."""
    return StreamingResponse(lines(), media_type="text/event-stream")


app = Starlette(lifespan=lifespan(client), routes=[Route("/events", events), *health_routes(client)])


async def aiohttp_events(request: web.Request) -> web.StreamResponse:
    """The same over aiohttp's server."""
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    async for line in lines():
        await response.write(line)
    return response


def main() -> None:
    """aiohttp's server on a port."""
    application = web.Application()
    application.cleanup_ctx.append(aiohttp_web.cleanup_ctx(client))
    application.add_routes([web.get("/events", aiohttp_events), *aiohttp_web.health_routes(client)])
    web.run_app(application, host="127.0.0.1", port=int(sys.argv[1]), print=None)


if __name__ == "__main__":
    main()
