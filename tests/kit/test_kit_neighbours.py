"""Other tools for tests of HTTP, with each kind of session: the table of docs/testing.md is what happens."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import aiohttp
import aioresponses
import httpx
import pytest
import respx
import vcr
from aiographql.client import GraphQLClient
from aiohttp import web
from aiohttp.test_utils import TestServer

from graphql_prod import ProductionClient, ProductionConfig
from graphql_prod.testing import Answer, ScriptedServer, no_waiting

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from unittest.mock import MagicMock

    from pytest_httpserver import HTTPServer
    from pytest_httpx import HTTPXMock

PAGE = Path(__file__).parent.parent.parent / "docs" / "testing.md"
NOBODY = "http://127.0.0.1:1/graphql"
"""Where nobody listens."""
QUERY = "query Hello($name: String) { hello(name: $name) }"
DATA = {"hello": "you"}
BODY = {"data": DATA}
SESSIONS = ("owned aiohttp", "owned httpx", "given aiohttp", "given httpx")
Outcome = Literal["yes", "no"]


@contextlib.asynccontextmanager
async def client_of(url: str, kind: str, session: Any = None) -> AsyncIterator[ProductionClient]:
    """A client with this kind of session, which does not wait between attempts."""
    owner, _, backend = kind.partition(" ")
    config = ProductionConfig(backend=backend)  # type: ignore[arg-type]
    async with contextlib.AsyncExitStack() as stack:
        stack.enter_context(no_waiting())
        if owner == "given":
            made = session or (aiohttp.ClientSession() if backend == "aiohttp" else httpx.AsyncClient())
            session = await stack.enter_async_context(made)
            config = ProductionConfig()
        yield await stack.enter_async_context(
            ProductionClient(url, session=session, config=config, validate=False)
        )


async def _outcome(url: str, kind: str, session: Any = None) -> Outcome:
    """Whether a query gets the answer that the tool was told, after the failure that it was told."""
    async with client_of(url, kind, session) as client:
        try:
            answer = await client.query(QUERY, variables={"name": "you"})
        except Exception:  # noqa: BLE001 -- each tool fails in its own way
            return "no"
        assert answer.data == DATA
        assert answer.attempts == 2
        return "yes"


async def with_respx(kind: str) -> Outcome:
    """It replaces the transports of httpx."""
    with respx.mock(assert_all_called=False) as mock:
        route = mock.post(NOBODY)
        route.side_effect = [httpx.Response(503), httpx.Response(200, json=BODY)]
        found = await _outcome(NOBODY, kind)
        assert found == "no" or json.loads(route.calls[0].request.content)["variables"] == {"name": "you"}
        return found


async def with_mock_transport(kind: str) -> Outcome:
    """httpx's own: a function in the place of the network."""
    answers = iter([httpx.Response(503), httpx.Response(200, json=BODY)])
    session = httpx.AsyncClient(transport=httpx.MockTransport(lambda _: next(answers)))
    if kind == "given httpx":
        return await _outcome(NOBODY, kind, session)
    await session.aclose()  # there is no way to give it to the others
    return "no"


async def with_aioresponses(kind: str) -> Outcome:
    """It replaces aiohttp's ``ClientSession._request``."""
    with aioresponses.aioresponses() as mock:
        mock.post(NOBODY, status=503)
        mock.post(NOBODY, payload=BODY)
        return await _outcome(NOBODY, kind)


async def with_test_server(kind: str) -> Outcome:
    """aiohttp's own: a real server on loopback."""
    answers = iter([web.Response(status=503), web.json_response(BODY)])

    async def answer(_: web.Request) -> web.Response:
        return next(answers)

    app = web.Application()
    app.router.add_post("/graphql", answer)
    async with TestServer(app) as server:
        return await _outcome(str(server.make_url("/graphql")), kind)


async def with_ours(kind: str) -> Outcome:
    """A real server on loopback too."""
    async with ScriptedServer() as server:
        server.script("Hello", Answer.page(503), DATA)
        return await _outcome(server.url, kind)


TOOLS: dict[str, Callable[[str], Any]] = {
    "`ScriptedServer`": with_ours,
    "respx": with_respx,
    "`httpx.MockTransport`": with_mock_transport,
    "aioresponses": with_aioresponses,
    "aiohttp's `TestServer`": with_test_server,
}


def said(tool: str) -> dict[str, str]:
    """What the page says of a tool, by the kind of session."""
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in PAGE.read_text(encoding="utf-8").splitlines()
        if line.startswith("|")
    ]
    [head] = [row for row in rows if row[0] == "tool"]
    [row] = [row for row in rows if row[0] == tool]
    return {kind: row[head.index(kind)] for kind in SESSIONS}


@pytest.mark.parametrize("kind", SESSIONS)
@pytest.mark.parametrize("tool", TOOLS)
async def test_the_table(tool: str, kind: str) -> None:
    """A tool sees a kind of session, or does not, as the page says."""
    assert await TOOLS[tool](kind) == said(tool)[kind]


@pytest.mark.parametrize("kind", SESSIONS)
@pytest.mark.httpx_mock(assert_all_responses_were_requested=False)
async def test_pytest_httpx(httpx_mock: HTTPXMock, kind: str) -> None:
    """It replaces the transports of httpx."""
    httpx_mock.add_response(url=NOBODY, status_code=503)
    httpx_mock.add_response(url=NOBODY, json=BODY)
    assert await _outcome(NOBODY, kind) == said("pytest-httpx")[kind]


@pytest.mark.parametrize("kind", SESSIONS)
async def test_pytest_httpserver(httpserver: HTTPServer, kind: str) -> None:
    """A real server, in a thread."""
    httpserver.expect_ordered_request("/graphql", method="POST").respond_with_data("", status=503)
    httpserver.expect_ordered_request("/graphql", method="POST").respond_with_json(BODY)
    assert await _outcome(httpserver.url_for("/graphql"), kind) == said("pytest-httpserver")[kind]
    httpserver.check()


@pytest.mark.parametrize("kind", SESSIONS)
async def test_vcrpy(tmp_path: Path, kind: str) -> None:
    """What was recorded once is answered again without the server, and what was asked can be read."""
    tape = tmp_path / "tape.yaml"
    async with ScriptedServer() as server:
        server.always(DATA, "Hello")
        recorder = vcr.VCR(filter_headers=["Authorization"])
        with recorder.use_cassette(str(tape)):
            async with client_of(server.url, kind) as client:
                assert (await client.query(QUERY, variables={"name": "you"})).data == DATA
    with recorder.use_cassette(str(tape), record_mode="none") as cassette:
        async with client_of(server.url, kind) as client:
            assert (await client.query(QUERY, variables={"name": "you"})).data == DATA
        assert cassette.play_count == 1
    assert "variables" in tape.read_text()
    assert said("vcrpy")[kind] == "yes"


async def test_aioresponses_makes_no_answers_of_this_aiohttp() -> None:
    """It is not our doing: the stock client meets the same."""
    with aioresponses.aioresponses() as mock:
        mock.post(NOBODY, payload=BODY)
        async with aiohttp.ClientSession() as session:
            with pytest.raises(TypeError, match="stream_writer"):
                await GraphQLClient(NOBODY, validate=False, session=session).query(QUERY)


@pytest.mark.parametrize("kind", SESSIONS)
async def test_a_double_reads_the_body_that_it_was_called_with(
    monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Bytes, as the stock gives them: a double may parse them."""
    async with ScriptedServer() as server, client_of(server.url, kind) as client:
        await client.query(QUERY, variables={"name": "you"})
        if kind.endswith("aiohttp"):
            asked: list[Any] = []
            real = aiohttp.ClientSession.request

            def request(session: aiohttp.ClientSession, *given: Any, **named: Any) -> Any:
                asked.append(named["data"])
                return real(session, *given, **named)

            monkeypatch.setattr(aiohttp.ClientSession, "request", request)
            await client.query(QUERY, variables={"name": "you"})
            assert json.loads(asked[0])["variables"] == {"name": "you"}
            assert isinstance(asked[0], bytes)


async def test_a_request_mock(monkeypatch: pytest.MonkeyPatch) -> None:
    """The double that the issue threads of the stock show: status and read() alone, and the body read."""
    seen: list[Any] = []

    class Thin:
        status = 200

        async def read(self) -> bytes:
            return json.dumps({"data": json.loads(seen[0])["variables"]}).encode()

        async def __aenter__(self) -> Thin:
            return self

        async def __aexit__(self, *_: object) -> None:
            """Nothing to leave."""

    def request(_: MagicMock, *__: Any, **named: Any) -> Thin:
        seen.append(named["data"])
        return Thin()

    monkeypatch.setattr(aiohttp.ClientSession, "request", request)
    async with ProductionClient(NOBODY, validate=False) as client:
        assert (await client.query(QUERY, variables={"name": "you"})).data == {"name": "you"}
