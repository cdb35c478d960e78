"""What comes in one piece with an answer, or with the end of one, is no answer to the next request."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from aiographql.client.transport import HttpxTransport
from raw_http import KINDS, MUTATION, QUERY, RawServer, answer, client_of

from graphql_prod import ProductionClient, TransportError
from graphql_prod.testing import no_waiting

if TYPE_CHECKING:
    from raw_http import Asked, Kind

STRAY = answer({"hello": -1, "increment": -1})


def good(asked: Asked) -> bytes:
    """The answer to a request."""
    return answer({"hello": asked.number, "increment": asked.number})


def doubled(asked: Asked) -> bytes:
    """The first answer comes with another one at its end."""
    return good(asked) + (STRAY if asked.number == 1 else b"")


def unended(asked: Asked) -> bytes:
    """The first answer lacks the end of its last chunk."""
    if asked.number > 1:
        return good(asked)
    body = good(asked).partition(b"\r\n\r\n")[2]
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head + b"%x\r\n%b\r\n0\r\n" % (len(body), body)


def of(response: Any) -> object:
    """The number of the request that was answered."""
    return next(iter(response.data.values()))


@pytest.mark.parametrize("document", [QUERY, MUTATION])
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "given-httpx"])
async def test_doubled(kind: Kind, document: str) -> None:
    """The second answer is dropped with its connection, and the next call is sent anew, once."""
    with RawServer(doubled) as server, no_waiting():
        async with client_of(kind, server.url) as client:
            assert [of(await client.query(document)) for _ in range(3)] == [1, 2, 3]
    assert [asked.connection for asked in server.asked] == [1, 2, 2]


@pytest.mark.parametrize("method", ["post", "get"])
@pytest.mark.parametrize("own", [True, False], ids=["session", "transport"])
async def test_doubled_over_httpx(own: bool, method: str) -> None:
    """httpx keeps it, and gives it to the next request when that is written: a query is sent again.

    Of a mutation nobody can tell whether the server took it.
    """
    with RawServer(doubled) as server, no_waiting():
        async with httpx.AsyncClient(trust_env=False) as http:
            given: dict[str, Any] = {"session": http} if own else {}
            if not own:
                given = {"transport": HttpxTransport(server.url, client=http)}
            async with ProductionClient(server.url, validate=False, **given) as client:
                await client.query(QUERY)
                assert of(await client.query(QUERY, method=method)) in (2, 3)
                assert of(await client.query(QUERY, method=method)) in (3, 4)
    with RawServer(doubled) as server, no_waiting():
        async with client_of("given-httpx", server.url) as client:
            await client.query(MUTATION)
            with pytest.raises(TransportError) as caught:
                await client.query(MUTATION)
            assert caught.value.may_have_executed
            assert caught.value.attempts == 1
            assert of(await client.query(MUTATION)) in (2, 3)


@pytest.mark.parametrize("document", [QUERY, MUTATION])
@pytest.mark.parametrize("kind", KINDS)
async def test_with_the_end_of_an_answer(kind: Kind, document: str) -> None:
    """The same of what comes with the last bytes of an answer that was being read."""
    with RawServer(unended) as server, no_waiting():
        async with client_of(kind, server.url) as client:
            first = asyncio.create_task(client.query(document))
            while not server.asked:
                await asyncio.sleep(0.001)
            await asyncio.sleep(0.05)  # time to read the first part; the rule holds without it, too
            server.push(b"\r\n" + STRAY)
            assert of(await first) == 1
            ends = [await asyncio.gather(client.query(document), return_exceptions=True) for _ in range(2)]
    for (end,) in ends:
        if isinstance(end, TransportError):
            assert (kind, document) == ("given-httpx", MUTATION)
            assert end.may_have_executed
        else:
            assert of(end) != -1
