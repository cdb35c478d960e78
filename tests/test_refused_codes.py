"""A code of refused credentials renews them once, wherever in an answer's status and media type it stands."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from executing import JSON, KINDS, RESPONSE, Executing, Kind, Tokens, client_of

from graphql_prod import HTTPStatusError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

REFUSAL = {"errors": [{"message": "no", "extensions": {"code": "UNAUTHENTICATED"}}]}
HASURA = {"errors": [{"message": "no", "extensions": {"path": "$", "code": "invalid-jwt"}}]}
BODIES = {
    "a request error": REFUSAL,
    "Hasura's": HASURA,
    "null data": {**REFUSAL, "data": None},
    "beside another error": {"errors": [{"message": "other"}, *REFUSAL["errors"]], "data": None},
}
PLACES = [
    (status, media)
    for status in (200, 294, 400, 403, 404, 422, 429, 500, 501, 503)
    for media in (JSON, f"{JSON}; charset=utf-8", RESPONSE, "application/problem+json", "text/plain")
]
every_kind = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture
async def server() -> AsyncIterator[Executing]:
    async with Executing().running() as running:
        running.executes = False
        yield running


@every_kind
@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
async def test_renewed_once(server: Executing, kind: Kind, body: object) -> None:
    """Whatever its status and media type: it is one renewal and one repetition, and takes no retry."""
    for status, media in PLACES:
        server.says = (status, media, json.dumps(body))
        tokens = Tokens()
        async with client_of(kind, server.url, tokens) as client:
            answer = await client.query("{ greeting }")
            assert answer.data == {"greeting": "hello"}, (status, media)
            assert client.stats().retries == 0
        assert tokens.asked == [False, True]


@every_kind
async def test_a_second_refusal_comes_out(server: Executing, kind: Kind) -> None:
    """Renewed in vain, the answer is what the stock makes of it; an error has its body."""

    async def stale(refresh: bool = False) -> dict[str, str]:
        return {"Authorization": "Bearer old"}

    for status in (400, 403):
        async with client_of(kind, server.url, stale) as client:
            server.says = (status, JSON, json.dumps(REFUSAL))
            with pytest.raises(HTTPStatusError) as caught:
                await client.query("{ greeting }")
            assert (caught.value.status, caught.value.attempts) == (status, 2)
            assert caught.value.response.json == REFUSAL
            server.says = (status, RESPONSE, json.dumps(REFUSAL))
            assert (await client.query("{ greeting }")).json == REFUSAL


@every_kind
async def test_other_codes(server: Executing, kind: Kind) -> None:
    """Other codes, and none, renew nothing; neither do codes of the caller's that are not the client's."""
    tokens = Tokens()
    async with client_of(
        kind, server.url, tokens, settings={"auth_error_codes": {"TOKEN_EXPIRED"}}
    ) as client:
        for body in (REFUSAL, {"errors": [{"message": "no"}]}, {"message": "no", "code": "TOKEN_EXPIRED"}):
            server.says = (403, JSON, json.dumps(body))
            with pytest.raises(HTTPStatusError):
                await client.query("{ greeting }")
    assert tokens.asked == [False] * 3
