"""An error that nobody keeps is gone at once, with what it held: the collector need not look for it."""

from __future__ import annotations

import gc
import weakref
from typing import TYPE_CHECKING

import pytest
from aiographql.client import GraphQLClientException

from graphql_prod import ProductionClient
from graphql_prod.testing import Answer, ScriptedServer, no_waiting

if TYPE_CHECKING:
    from collections.abc import Iterator

ANSWERS = {
    "a page, final": Answer.page(400),
    "a page, after retries": Answer.page(503),
    "no GraphQL answer": Answer.login_page(),
    "a lost connection": Answer.disconnect(),
    "no HTTP": Answer.garbage(),
}


@pytest.fixture
def uncollected() -> Iterator[None]:
    """Without the collector."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
@pytest.mark.parametrize("backend", ["aiohttp", "httpx"])
@pytest.mark.usefixtures("uncollected")
async def test_errors_are_no_circles(backend: str, answer: Answer) -> None:
    """Its traceback holds the frames of the call, and these do not hold the error."""
    kept = []
    async with ScriptedServer() as server:
        server.always(answer)
        async with ProductionClient(server.url, validate=False, backend=backend) as client:  # type: ignore[arg-type]
            for _ in range(3):
                try:
                    with no_waiting():
                        await client.query("{ hello }")
                except GraphQLClientException as error:
                    kept.append(weakref.ref(error))
            assert [each() for each in kept] == [None] * 3
