"""The life of the scripted server, and its sockets."""

import asyncio
import contextlib
import gc
import json
import os
import socket
from typing import Any

import aiohttp
import pytest
from serving import INCREMENT, MODERN, send

from graphql_prod.testing import Answer, ReceivedRequest, ScriptedServer

LEGACY = "graphql-ws"


def tasks() -> set[asyncio.Task[Any]]:
    return asyncio.all_tasks()


def sockets_of_this_process() -> int:
    gc.collect()
    links = [f"/proc/self/fd/{name}" for name in os.listdir("/proc/self/fd")]
    found = 0
    for link in links:
        with contextlib.suppress(OSError):
            found += os.readlink(link).startswith("socket:")
    return found


class TestLife:
    async def test_again_on_the_same_port(self, http: aiohttp.ClientSession) -> None:
        """A stopped server refuses; started again it has its port, facts and scripts."""
        server = ScriptedServer()
        async with server:
            port = server.port
            await send(http, server, "{ hello }")
            server.script(Answer.page(418))
            await server.stop()
            await server.stop()
            with pytest.raises(aiohttp.ClientConnectorError):
                await send(http, server, "{ hello }")
            await server.start()
            await server.start()
            assert (server.port, server.running) == (port, True)
            assert await send(http, server, "{ hello }") == b"<html><body><h1>418</h1></body></html>"
            assert (len(server.requests), server.connections) == (2, 2)

    async def test_stop_ends_everything(self, http: aiohttp.ClientSession) -> None:
        """A stop ends hanging handlers and sockets at once; no task, no socket stays."""
        tasks_before, sockets_before = tasks(), sockets_of_this_process()
        server = ScriptedServer()
        await server.start()
        server.always(Answer.hang())
        calls = [asyncio.create_task(send(http, server, "{ hello }")) for _ in range(5)]
        ws = await http.ws_connect(server.ws_url, protocols=[MODERN])
        await begin(ws)
        await ws.send_json(start("1", "subscription { count }"))
        await server.subscribed(1)
        idle = socket.create_connection((server.host, server.port))
        await server.until(lambda: server.connections == 7)
        await server.received(5)
        async with asyncio.timeout(1):
            await server.stop()
        assert not server.sockets
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        assert all(isinstance(o, aiohttp.ClientConnectionError) for o in outcomes)
        await ws.close()
        idle.close()
        await http.close()
        assert tasks() <= tasks_before
        assert sockets_of_this_process() <= sockets_before

    async def test_answers_do_not_leak(self, server: ScriptedServer, http: aiohttp.ClientSession) -> None:
        """Every fault leaves the server without a task and without a connection."""
        faults = [Answer.reset(w) for w in ("before", "headers", "body")]
        before = tasks()
        server.script(*faults, Answer.disconnect(), Answer.truncated(), Answer.garbage())
        while server.unused:
            with contextlib.suppress(aiohttp.ClientError):
                await send(http, server, INCREMENT)
        await http.close()
        await server.stop()
        assert tasks() <= before


async def begin(ws: aiohttp.ClientWebSocketResponse) -> None:
    await ws.send_json({"type": "connection_init"})
    assert (await ws.receive_json())["type"] == "connection_ack"


def start(key: str, query: str, kind: str = "subscribe", **more: Any) -> dict[str, Any]:
    return {"type": kind, "id": key, "payload": {"query": query, **more}}


async def until_closed(ws: aiohttp.ClientWebSocketResponse) -> int | None:
    async for _ in ws:
        pass
    return ws.close_code


class TestSockets:
    async def test_modern(self, server: ScriptedServer, http: aiohttp.ClientSession) -> None:
        """graphql-transport-ws: subscribe, next, complete; the cursor is inclusive."""
        async with http.ws_connect(server.ws_url, protocols=[MODERN, LEGACY]) as ws:
            assert ws.protocol == MODERN
            await begin(ws)
            query = "subscription C($a: Int!) { count(from: $a, to: 4) }"
            await ws.send_json(start("x", query, variables={"a": 3}, operationName="C"))
            got = [await ws.receive_json() for _ in range(3)]
        assert [m["type"] for m in got] == ["next", "next", "complete"]
        assert got[1] == {"type": "next", "id": "x", "payload": {"data": {"count": 4}}}
        assert [(e.connection, e.subscription, e.value) for e in server.events_sent] == [
            (1, "x", 3),
            (1, "x", 4),
        ]
        assert server.executions == {"count": 1}

    async def test_padding(self, server: ScriptedServer, http: aiohttp.ClientSession) -> None:
        """Events are as large as the test wants them, beside their data."""
        async with http.ws_connect(server.ws_url, protocols=[MODERN]) as ws:
            await begin(ws)
            for key, padding, more in (("1", 5, {"extensions": {"padding": "xxxxx"}}), ("2", 0, {})):
                server.padding = padding
                await ws.send_json(start(key, "subscription { count(to: 0) }"))
                assert (await ws.receive_json())["payload"] == {"data": {"count": 0}, **more}
                assert (await ws.receive_json())["type"] == "complete"

    async def test_legacy(self, server: ScriptedServer, http: aiohttp.ClientSession) -> None:
        """graphql-ws: start, data, stop with a complete, connection_terminate."""
        async with http.ws_connect(server.ws_url, protocols=[LEGACY]) as ws:
            await begin(ws)
            await ws.send_json(start("1", "subscription { count }", "start"))
            assert (await ws.receive_json())["type"] == "data"
            await ws.send_json({"type": "stop", "id": "1"})
            async for message in ws:
                if message.json()["type"] == "complete":
                    break
            await ws.send_json(start("2", "{ nothing }", "start"))
            error = await ws.receive_json()
            assert (error["type"], error["id"]) == ("error", "2")
            assert "nothing" in error["payload"]["message"]
            await ws.send_json({"type": "connection_terminate"})
            assert await until_closed(ws) == 1000
        assert len(await server.subscribed(2)) == 2

    async def test_complete_by_client(self, server: ScriptedServer, http: aiohttp.ClientSession) -> None:
        """After the client's complete nothing more comes for that id, and the id is free."""
        server.tick = 60
        async with http.ws_connect(server.ws_url, protocols=[MODERN]) as ws:
            await begin(ws)
            for _ in range(2):
                await ws.send_json(start("1", "subscription { count }"))
                assert (await ws.receive_json())["type"] == "next"
                await ws.send_json({"type": "complete", "id": "1"})
            await ws.send_json({"type": "ping", "payload": {"a": 1}})
            assert await ws.receive_json() == {"type": "pong", "payload": {"a": 1}}
            assert server.sockets[0].subscriptions == []

    async def test_queries_and_errors(self, server: ScriptedServer, http: aiohttp.ClientSession) -> None:
        """Queries and mutations run over a socket too; a request error is an error message."""
        async with http.ws_connect(server.ws_url, protocols=[MODERN]) as ws:
            await begin(ws)
            await ws.send_json(start("1", INCREMENT))
            assert (await ws.receive_json())["payload"] == {"data": {"increment": 1}}
            assert await ws.receive_json() == {"type": "complete", "id": "1"}
            for query in ("{", "subscription ($a: Int!) { count(from: $a) }"):
                await ws.send_json(start("1", query))
                error = await ws.receive_json()
                assert (error["type"], len(error["payload"])) == ("error", 1)

    @pytest.mark.parametrize(
        ("code", "messages"),
        [
            (4400, ["no JSON"]),
            (4400, ["[]"]),
            (4400, [{"type": "what"}]),
            (4400, [{"type": "connection_init", "payload": 1}]),
            (4400, [{"type": "subscribe", "payload": {"query": "{ hello }"}}]),
            (4400, [{"type": "subscribe", "id": "1", "payload": {}}]),
            (4400, [{"type": "complete"}]),
            (4401, [start("1", "{ hello }")]),
            (4429, [{"type": "connection_init"}] * 2),
        ],
    )
    async def test_violations(
        self,
        server: ScriptedServer,
        http: aiohttp.ClientSession,
        code: int,
        messages: list[Any],
    ) -> None:
        """Breaking the protocol closes the socket with the code of the reference server."""
        async with http.ws_connect(server.ws_url, protocols=[MODERN]) as ws:
            for message in messages:
                await ws.send_str(message if isinstance(message, str) else json.dumps(message))
            assert await until_closed(ws) == code
        await server.socket_count(0)
        assert server.close_codes == {1: code}
        assert len(server.messages) == len(messages)

    async def test_taken_id(self, server: ScriptedServer, http: aiohttp.ClientSession) -> None:
        """An id in use is a 4409; the legacy protocol replaces the running operation."""
        server.tick = 60
        async with http.ws_connect(server.ws_url, protocols=[MODERN]) as ws:
            await begin(ws)
            await ws.send_json(start("1", "subscription { count }"))
            await ws.send_json(start("1", "subscription { count }"))
            assert await until_closed(ws) == 4409
        async with http.ws_connect(server.ws_url, protocols=[LEGACY]) as ws:
            await begin(ws)
            for _ in range(2):
                await ws.send_json(start("1", "subscription { count }", "start"))
                assert (await ws.receive_json())["type"] == "data"
            assert server.sockets[0].subscriptions == ["1"]

    async def test_no_protocol(self, server: ScriptedServer, http: aiohttp.ClientSession) -> None:
        """Without a common subprotocol the socket closes with 4406."""
        async with http.ws_connect(server.ws_url) as ws:
            assert await until_closed(ws) == 4406

    async def test_acknowledgement(self, server: ScriptedServer, http: aiohttp.ClientSession) -> None:
        """The acknowledgement can be late, and can stay away while the socket lives."""
        server.ack_delay = 0.05
        async with http.ws_connect(server.ws_url, protocols=[MODERN]) as ws:
            began = asyncio.get_running_loop().time()
            await begin(ws)
            assert asyncio.get_running_loop().time() - began >= 0.05
        server.never_ack = True
        async with http.ws_connect(server.ws_url, protocols=[MODERN]) as ws:
            await ws.send_json({"type": "connection_init", "payload": {"token": "t"}})
            await ws.send_json({"type": "ping"})
            assert await ws.receive_json() == {"type": "pong"}
            assert server.sockets[0].init_payload == {"token": "t"}
            assert not server.sockets[0].acknowledged

    async def test_init_timeout(self, server: ScriptedServer, http: aiohttp.ClientSession) -> None:
        """A client that never initialises gets a 4408."""
        server.init_timeout = 0.01
        async with http.ws_connect(server.ws_url, protocols=[MODERN]) as ws:
            assert await until_closed(ws) == 4408

    async def test_on_connect(self, server: ScriptedServer, http: aiohttp.ClientSession) -> None:
        """An upgrade can be refused with a status, an answer or a close code."""
        verdicts: list[int | Answer | None] = [401, Answer.redirect("/x"), 4403, None]

        def verdict(request: ReceivedRequest) -> int | Answer | None:
            assert request.headers["x-token"] == "t"
            return verdicts.pop(0)

        server.on_connect = verdict
        http.headers["X-Token"] = "t"
        for status in (401, 404):  # aiohttp follows the redirect of an upgrade
            with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
                await http.ws_connect(server.ws_url, protocols=[MODERN])
            assert caught.value.status == status
        async with http.ws_connect(server.ws_url, protocols=[MODERN]) as ws:
            assert await until_closed(ws) == 4403
        async with http.ws_connect(server.ws_url, protocols=[MODERN]) as ws:
            await begin(ws)
        assert len(server.upgrades) == 5
        assert not server.requests

    async def test_on_init(self, server: ScriptedServer, http: aiohttp.ClientSession) -> None:
        """The initialisation can be refused by its payload."""
        server.on_init = lambda payload: None if payload.get("token") else 4403
        async with http.ws_connect(server.ws_url, protocols=[MODERN]) as ws:
            await ws.send_json({"type": "connection_init"})
            assert await until_closed(ws) == 4403

    async def test_close_all(self, server: ScriptedServer, http: aiohttp.ClientSession) -> None:
        """All sockets close cleanly with the code that the test wants, and leave no task."""
        before = tasks()
        async with (
            http.ws_connect(server.ws_url, protocols=[MODERN]) as one,
            http.ws_connect(server.ws_url, protocols=[LEGACY]) as two,
        ):
            await server.socket_count(2)
            endings = [asyncio.create_task(ws.receive()) for ws in (one, two)]
            await server.close_sockets(1012, "restart")
            frames = await asyncio.gather(*endings)
        assert [(f.type, f.data, f.extra) for f in frames] == [(aiohttp.WSMsgType.CLOSE, 1012, "restart")] * 2
        await server.socket_count(0)
        assert server.close_codes == {1: 1012, 2: 1012}
        await http.close()
        await server.stop()
        assert tasks() <= before

    async def test_close_in_mid_stream(self, server: ScriptedServer, http: aiohttp.ClientSession) -> None:
        """A clean close arrives behind the events of a stream that has no end."""
        async with http.ws_connect(server.ws_url, protocols=[MODERN]) as ws:
            await begin(ws)
            await ws.send_json(start("1", "subscription { count }"))
            await server.until(lambda: len(server.events_sent) >= 5)
            closing = asyncio.create_task(server.close_sockets(1001))
            assert await until_closed(ws) == 1001
            await closing
        await server.socket_count(0)

    async def test_reset_all(self, server: ScriptedServer, http: aiohttp.ClientSession) -> None:
        """A reset ends a socket without a close frame."""
        async with http.ws_connect(server.ws_url, protocols=[MODERN]) as ws:
            await begin(ws)
            server.reset_sockets()
            assert await until_closed(ws) == 1006
            await server.socket_count(0)
        assert server.close_codes == {1: None}

    async def test_own_message(self, server: ScriptedServer, http: aiohttp.ClientSession) -> None:
        """A test can send messages of its own, valid or not."""
        async with http.ws_connect(server.ws_url, protocols=[MODERN]) as ws:
            await begin(ws)
            for message in ({"type": "ping"}, "nonsense", b"bytes"):
                await server.send_to_sockets(message)
            assert [(await ws.receive()).data for _ in range(3)] == [
                '{"type": "ping"}',
                "nonsense",
                b"bytes",
            ]

    async def test_other_path(self, server: ScriptedServer, http: aiohttp.ClientSession) -> None:
        """Only the endpoint takes upgrades."""
        with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
            await http.ws_connect(server.ws_url + "x", protocols=[MODERN])
        assert caught.value.status == 404
