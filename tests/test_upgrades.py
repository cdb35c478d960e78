"""WebSocket upgrades of our own sessions are not redirected."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING

import pytest

from graphql_prod import HTTPStatusError, ProductionClient, TransportError
from graphql_prod.testing import Answer, ScriptedServer

if TYPE_CHECKING:
    from conftest import Backend

SECRET = "s3cret-key"


async def test_a_redirect_of_an_upgrade_is_not_followed(server: ScriptedServer, backend: Backend) -> None:
    """Headers and connection_init stay with the endpoint: the redirect's target hears nothing."""
    async with ScriptedServer() as target:
        location = f"http://localhost:{target.port}/graphql?token={SECRET}"
        server.on_connect = lambda _: Answer.redirect(location, 307)
        headers = {"X-Api-Key": SECRET}
        async with ProductionClient(server.url, headers, validate=False, backend=backend) as client:
            with pytest.raises(TransportError, match="redirect to localhost") as caught:
                await client.subscribe("subscription { count }")
        assert SECRET not in str(caught.value)
        assert len(server.upgrades) == 1
        assert not target.upgrades + target.requests


async def test_a_refused_upgrade_says_its_status(server: ScriptedServer, backend: Backend) -> None:
    """What is no redirect is told as the status that it is, with the headers."""
    server.on_connect = lambda _: Answer.page(404, headers={"X-Id": "7"})
    async with ProductionClient(server.url, validate=False, backend=backend) as client:
        with pytest.raises(HTTPStatusError, match="404 Not Found") as caught:
            await client.subscribe("subscription { count }")
    assert (caught.value.status, caught.value.headers["x-id"]) == (404, "7")


def test_the_seam_of_websockets() -> None:
    """websockets asks the method in which we refuse redirects; under another name it would not."""
    connect = pytest.importorskip("websockets.asyncio.client").connect
    parameters = inspect.signature(connect.process_redirect).parameters
    assert list(parameters) == ["self", "exc"]
