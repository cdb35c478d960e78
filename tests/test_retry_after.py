"""``Retry-After`` in every form, wherever it comes: on statuses, on answers, on refused upgrades."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import TYPE_CHECKING, Any, Literal

import aiohttp
import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from logged import facts_of
from multidict import CIMultiDict
from websockets.datastructures import Headers

from graphql_prod import (
    GraphQLResponse,
    HTTPStatusError,
    InvalidResponseError,
    ProductionClient,
    ProductionConfig,
    RetryPolicy,
    SubscriptionPolicy,
)
from graphql_prod.resilience.retry.retry_after import retry_after
from graphql_prod.testing import no_waiting

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from subscribing import Backend

Owner = Literal["owned", "given"]
NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
DATE = f"Date: {format_datetime(NOON, usegmt=True)}"
KINDS: dict[str, Callable[[list[tuple[str, str]]], Mapping[str, str]]] = {
    "aiohttp": CIMultiDict,
    "httpx": httpx.Headers,
    "websockets": Headers,
}
GOOD = b'{"data":{"hello":"x"}}'


def imf(moment: datetime) -> str:
    return format_datetime(moment, usegmt=True)


def rfc850(moment: datetime) -> str:
    return moment.strftime("%A, %d-%b-%y %H:%M:%S GMT")


def asctime(moment: datetime) -> str:
    return f"{moment:%a %b} {moment.day:2d} {moment:%H:%M:%S %Y}"


FORMS = {"IMF-fixdate": imf, "RFC 850": rfc850, "asctime": asctime}


@contextlib.asynccontextmanager
async def serving(*answers: bytes) -> AsyncIterator[str]:
    """A server that gives one answer after another, and the last one again and again."""
    left = list(answers)

    async def answered(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            for line in head.lower().split(b"\r\n"):
                if line.startswith(b"content-length:"):
                    await reader.readexactly(int(line.partition(b":")[2]))
            writer.write(left.pop(0) if len(left) > 1 else left[0])
            await writer.drain()
        writer.close()

    listener = await asyncio.start_server(answered, "127.0.0.1", 0)
    async with listener:
        yield f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}/graphql"


def answer(status: int, *headers: str, body: bytes = b"", media: str = "text/html") -> bytes:
    lines = [f"HTTP/1.1 {status} X", f"Content-Type: {media}", f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, "Connection: close", *headers, "", ""]).encode() + body


@contextlib.asynccontextmanager
async def client_of(
    url: str, backend: Backend, owner: Owner, **retry: Any
) -> AsyncIterator[ProductionClient]:
    policy = RetryPolicy(**{"wait_initial": 0.0, "jitter": "none", **retry})
    config = ProductionConfig(retry=policy, subscriptions=SubscriptionPolicy(connect_attempts=1))
    async with contextlib.AsyncExitStack() as stack:
        session: Any = None
        if owner == "given":
            library: Any = aiohttp.ClientSession if backend == "aiohttp" else httpx.AsyncClient
            session = await stack.enter_async_context(library())
        client = ProductionClient(
            url, validate=False, config=config, session=session, backend=None if session else backend
        )
        yield await stack.enter_async_context(client)


# --- what a value means ---------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("values", "seconds"),
    [
        (["2"], 2.0),
        (["1.5"], 1.5),
        (["2.0"], 2.0),
        (["2", "3"], 3.0),
        (["3", "2"], 3.0),
        (["2, 7, 5"], 7.0),
        (["2,3"], 3.0),
        (["soon", "4"], 4.0),
        ([imf(NOON + timedelta(seconds=9)), "4"], 9.0),
        (["4", rfc850(NOON + timedelta(seconds=9))], 9.0),
        ([f"4, {imf(NOON + timedelta(seconds=9))}"], 9.0),
        ([asctime(NOON + timedelta(seconds=9))], 9.0),
        ([imf(NOON - timedelta(days=900))], 0.0),
        (["99999999999"], 99999999999.0),
        (["-1"], None),
        (["2s"], None),
        (["2 seconds"], None),
        (["+2"], None),
        (["1e3"], None),
        (["inf"], None),
        (["nan"], None),
        (["0x10"], None),
        (["2_0"], None),
        ([""], None),
        (["2, soon"], None),
        (["2026-03-01T12:00:09Z"], None),
        (["Sun, 99 Mar 2026 12:00:09 GMT"], None),
        (["Sun, 01 Mar 2026 25:00:09 GMT"], None),
        (["Sun Mar  1 12:00:09"], None),
    ],
)
def test_values(kind: str, values: list[str], seconds: float | None) -> None:
    """Of several wishes the longest; what cannot be read is none. In the headers of each library."""
    headers = KINDS[kind]([("date", imf(NOON)), *(("retry-after", value) for value in values)])
    assert retry_after(headers) == seconds


@given(
    moment=st.integers(631152000, 2840140800).map(lambda second: datetime.fromtimestamp(second, UTC)),
    ahead=st.integers(-(10**6), 10**6),
    form=st.sampled_from(sorted(FORMS)),
    dated=st.sampled_from(sorted(FORMS)),
)
def test_each_form_of_a_date(moment: datetime, ahead: int, form: str, dated: str) -> None:
    """Any moment in any form is held against the answer's own Date, which may have any form too."""
    headers = {"Date": FORMS[dated](moment), "Retry-After": FORMS[form](moment + timedelta(seconds=ahead))}
    assert retry_after(headers) == max(0, ahead)


@given(
    wishes=st.lists(st.floats(0, 10**9).map(lambda wish: round(wish, 3)), min_size=1, max_size=5),
    joined=st.booleans(),
)
def test_the_longest_of_several(wishes: list[float], joined: bool) -> None:
    """Whether the header is repeated or its values are joined by commas."""
    shown = [f"{wish:.3f}" for wish in wishes]
    headers = CIMultiDict([("Retry-After", each) for each in ([", ".join(shown)] if joined else shown)])
    assert retry_after(headers) == max(wishes)


@pytest.mark.parametrize("date", ["nonsense", "", None, "Sun, 99 Mar 2026 12:00:00 GMT"])
@pytest.mark.parametrize("form", FORMS)
def test_without_a_readable_date_our_clock_counts(form: str, date: str | None) -> None:
    """A Date that says nothing costs nothing."""
    headers = {"Retry-After": FORMS[form](datetime.now(UTC) + timedelta(seconds=60))}
    if date is not None:
        headers["Date"] = date
    assert 55 < (retry_after(headers) or 0) <= 60


# --- where it comes from --------------------------------------------------------------------------


@pytest.mark.parametrize("status", [400, 404, 429, 500, 503])
async def test_on_a_status(backend: Backend, owner: Owner, status: int) -> None:
    """Whatever the status, repeated headers included."""
    page = answer(status, DATE, "Retry-After: 2.5", f"Retry-After: {asctime(NOON + timedelta(seconds=8))}")
    async with serving(page) as url, client_of(url, backend, owner, attempts=1) as client:
        with pytest.raises(HTTPStatusError) as caught:
            await client.query("{ hello }")
    assert (caught.value.status, caught.value.retry_after) == (status, 8.0)


@pytest.mark.parametrize("status", [200, 429, 503])
async def test_on_an_answer(backend: Backend, owner: Owner, status: int) -> None:
    """On an answer with errors too: under a success, and under a status that is none."""
    media = "application/graphql-response+json"
    body = b'{"errors":[{"message":"busy"}],"data":null}'
    page = answer(status, "Retry-After: 2", "Retry-After: 3.5", body=body, media=media)
    async with serving(page) as url, client_of(url, backend, owner, attempts=1) as client:
        told = await client.query("{ hello }")
    assert isinstance(told, GraphQLResponse)
    assert (told.status, told.retry_after) == (status, 3.5)


async def test_on_what_is_no_answer(backend: Backend, owner: Owner, caplog: pytest.LogCaptureFixture) -> None:
    """A success without GraphQL: the wait is kept, and the error tells of it."""
    page = answer(200, "Retry-After: 3", body=b"<html>soon</html>")
    with no_waiting():
        async with serving(page) as url, client_of(url, backend, owner, attempts=2) as client:
            with pytest.raises(InvalidResponseError) as caught:
                await client.query("{ hello }")
    assert caught.value.retry_after == 3.0
    assert [facts_of(record)["wait"] for record in caplog.records if "wait" in facts_of(record)] == [3.0]


@pytest.mark.parametrize("media", ["text/html", "application/graphql-response+json"])
async def test_the_wait_is_the_longest(
    backend: Backend, owner: Owner, media: str, caplog: pytest.LogCaptureFixture
) -> None:
    """An error page's and an answer's, before the next attempt."""
    body = b'{"errors":[{"message":"busy"}]}'
    busy = answer(503, "Retry-After: 1.25", "Retry-After: 0.5, 1", body=body, media=media)
    good = answer(200, body=GOOD, media="application/json")
    with no_waiting():
        async with serving(busy, good) as url, client_of(url, backend, owner) as client:
            assert (await client.query("{ hello }")).data == {"hello": "x"}
    assert [facts_of(record)["wait"] for record in caplog.records if "wait" in facts_of(record)] == [1.25]


@pytest.mark.parametrize("wish", ["99999999999", "9" * 400, "Fri, 31 Dec 9999 23:59:59 GMT"])
async def test_a_wait_that_does_not_fit_is_not_begun(backend: Backend, owner: Owner, wish: str) -> None:
    """However long: the failure is raised at once."""
    page = answer(503, DATE, f"Retry-After: {wish}")
    async with serving(page) as url, client_of(url, backend, owner) as client:
        with pytest.raises(HTTPStatusError) as caught:
            await client.query("{ hello }")
    assert caught.value.attempts == 1
    assert (caught.value.retry_after or 0) > 10**9


async def test_on_a_refused_upgrade(backend: Backend) -> None:
    """Both socket libraries, repeated headers and other repeated ones beside them."""
    page = answer(503, "Retry-After: 2", "Retry-After: 4", "Set-Cookie: a=b", "Set-Cookie: c=d")
    async with serving(page) as url, client_of(url, backend, "owned") as client:
        with pytest.raises(HTTPStatusError) as caught:
            await client.subscribe("subscription { count }")
    assert caught.value.retry_after == 4.0
    assert caught.value.headers.getall("set-cookie") == ["a=b", "c=d"]  # type: ignore[attr-defined]
