"""The pytest plugin, in projects of its own: plain tests, pytest-asyncio in both modes, anyio's plugin."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

CONFTEST = 'pytest_plugins = ["graphql_prod.testing.pytest"]\n'

ASYNC = """
import asyncio

import pytest

from graphql_prod import RequestTimeoutError, TransportError
from graphql_prod.testing import Answer, FaultyProxy, ScriptedServer

{mark}


async def test_a_call(graphql_client, graphql_server):
    response = await graphql_client.query("query Hello {{ hello }}")
    assert response.data == {{"hello": "Hello, world!"}}
    assert graphql_server.executed("Hello") == 1


async def test_a_script_and_its_retry(graphql_client, graphql_server):
    graphql_server.script("Hello", Answer.page(503), Answer.reset("before"), {{"hello": "you"}})
    response = await graphql_client.query("query Hello {{ hello }}")
    assert response.data == {{"hello": "you"}}
    assert len(await graphql_server.received(3)) == 3


async def test_the_same_loop(graphql_client, graphql_server):
    gate = asyncio.Event()
    graphql_server.script(Answer(gate=gate))
    call = asyncio.create_task(graphql_client.query("query Hello {{ hello }}"))
    await graphql_server.received(1)
    gate.set()
    assert (await call).data == {{"hello": "Hello, world!"}}


async def test_the_proxy_is_on_the_way(graphql_client, faulty_proxy):
    await graphql_client.query("{{ hello }}")
    assert faulty_proxy.accepted == 1
    await faulty_proxy.down()
    with pytest.raises(TransportError):
        await graphql_client.query("{{ hello }}")


async def test_events_by_hand(graphql_client, graphql_server):
    graphql_server.hold("Count")
    seen = []

    async def read():
        async for event in graphql_client.stream("subscription Count {{ count }}"):
            seen.append(event.payload.data)

    reading = asyncio.create_task(read())
    await graphql_server.send({{"count": 1}})
    await graphql_server.close_subscriptions(1012)
    graphql_server.hold("Count")
    await graphql_server.send({{"count": 2}})
    await graphql_server.complete_subscriptions()
    await reading
    assert seen == [{{"count": 1}}, {{"count": 2}}]


async def test_a_client_without_the_server(graphql_client):
    assert graphql_client.state == "open"


async def test_waits_are_out(no_waiting, graphql_server):
    pass
"""

PLAIN = """
import asyncio

import pytest

from graphql_prod import TransportError
from graphql_prod.testing import Answer


def test_a_call(graphql_client, graphql_server):
    assert asyncio.run(graphql_client.query("query Hello { hello }")).data == {"hello": "Hello, world!"}
    assert asyncio.run(graphql_client.query("query Hello { hello }")).data == {"hello": "Hello, world!"}
    assert graphql_server.executed("Hello") == 2


def test_a_script_and_its_retry(graphql_client, graphql_server):
    graphql_server.script("Hello", Answer.page(503), Answer.reset("before"), {"hello": "you"})
    assert asyncio.run(graphql_client.query("query Hello { hello }")).data == {"hello": "you"}
    assert len(asyncio.run(graphql_server.received(3))) == 3


def test_the_proxy_is_on_the_way(graphql_client, faulty_proxy):
    asyncio.run(graphql_client.query("{ hello }"))
    assert faulty_proxy.accepted == 1
    faulty_proxy.reset_connections()
    asyncio.run(faulty_proxy.down())
    with pytest.raises(TransportError):
        asyncio.run(graphql_client.query("{ hello }"))
    asyncio.run(faulty_proxy.up())
    asyncio.run(faulty_proxy.connections(1))
    assert asyncio.run(graphql_client.query("{ hello }")).data == {"hello": "Hello, world!"}


def test_a_gate_and_events(graphql_client, graphql_server):
    async def use():
        gate = asyncio.Event()
        graphql_server.script(Answer(gate=gate))
        call = asyncio.create_task(graphql_client.query("query Hello { hello }"))
        await graphql_server.received(1)
        gate.set()
        assert (await call).data == {"hello": "Hello, world!"}
        graphql_server.hold("Count")
        events = graphql_client.stream("subscription Count { count }")
        reading = asyncio.create_task(anext(events))
        await graphql_server.send({"count": 7})
        assert (await reading).payload.data == {"count": 7}
        graphql_server.reset_sockets()
        await graphql_server.subscribed(2)
        await graphql_server.close_sockets()
        await graphql_server.socket_count(1)
        await graphql_server.complete_subscriptions()
        await events.aclose()

    asyncio.run(use())


def test_a_restart(graphql_client, graphql_server):
    asyncio.run(graphql_client.query("{ hello }"))
    asyncio.run(graphql_server.stop())
    with pytest.raises(TransportError):
        asyncio.run(graphql_client.query("{ hello }"))
    asyncio.run(graphql_server.start())
    assert asyncio.run(graphql_client.query("{ hello }")).data == {"hello": "Hello, world!"}
"""


@dataclass(frozen=True)
class Way:
    """A way of testing: its settings, its mark, and the plugin that it needs."""

    settings: str
    mark: str = ""


WAYS = {
    "pytest-asyncio strict": Way("asyncio_mode = strict", "pytestmark = pytest.mark.asyncio"),
    "pytest-asyncio strict, one loop for the module": Way(
        "asyncio_mode = strict", 'pytestmark = pytest.mark.asyncio(loop_scope="module")'
    ),
    "pytest-asyncio strict, one loop for all": Way(
        "asyncio_mode = strict\nasyncio_default_test_loop_scope = session", "pytestmark = pytest.mark.asyncio"
    ),
    "pytest-asyncio auto": Way("asyncio_mode = auto"),
    "anyio": Way(
        "addopts = -p no:asyncio",
        "pytestmark = pytest.mark.anyio\n\n\n@pytest.fixture\ndef anyio_backend():\n    return 'asyncio'",
    ),
}


class Project:
    """A project of somebody's, with its own settings."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.write("conftest.py", CONFTEST)
        self.settings("")

    def settings(self, lines: str) -> None:
        """What its pytest.ini says."""
        ignored = "ignore:The configuration option"  # pytest-asyncio's default of a scope
        self.write("pytest.ini", f"[pytest]\nfilterwarnings =\n    error\n    {ignored}\n{lines}\n")

    def write(self, name: str, text: str) -> None:
        """Write one of its files."""
        (self.folder / name).write_text(textwrap.dedent(text))

    def run(self, *arguments: str) -> tuple[str, dict[str, int]]:
        """Run its tests: what they printed, and how many passed, failed, and so on."""
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST_", "COV_"))}
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-p",
            "no:cacheprovider",
            "-p",
            "no:xdist",
            "-q",
            *arguments,
        ]
        done = subprocess.run(
            [*command, *arguments],
            cwd=self.folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        text = done.stdout + done.stderr
        words = text.rstrip().splitlines()[-1].strip("= ").split(" in ")[0].split(", ")
        counts = {kind: int(count) for count, kind in (word.split(" ")[:2] for word in words)}
        return text, counts


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A project without tests."""
    return Project(tmp_path)


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_asynchronous_tests(project: Project, way: Way) -> None:
    """Server, proxy and client live on the loop of the test, whatever runs it."""
    project.settings(way.settings)
    project.write("test_app.py", ASYNC.format(mark=way.mark))
    text, counts = project.run()
    assert counts == {"passed": 7}, text


def test_plain_tests(project: Project) -> None:
    """Server and proxy run in a thread; the client opens itself on whichever loop uses it."""
    project.settings("addopts = -p no:asyncio -p no:anyio")
    project.write("test_app.py", PLAIN)
    text, counts = project.run()
    assert counts == {"passed": 5}, text


def test_another_loop_than_asyncios(project: Project) -> None:
    """Under trio there is nothing to be had, and the test says why it is skipped."""
    project.settings("addopts = -p no:asyncio")
    project.write(
        "test_app.py",
        """
        import pytest

        @pytest.fixture(params=["asyncio", "trio"])
        def anyio_backend(request):
            return request.param

        @pytest.mark.anyio
        async def test_it(graphql_client):
            assert (await graphql_client.query("{ hello }")).data == {"hello": "Hello, world!"}
        """,
    )
    text, counts = project.run("-rs")
    assert counts == {"passed": 1, "skipped": 1}, text
    assert "needs asyncio, and this test runs on trio" in text


def test_options(project: Project) -> None:
    """A conftest gives the server its schema, and the client its configuration."""
    project.write(
        "conftest.py",
        CONFTEST
        + textwrap.dedent(
            """
            import pytest
            from graphql_prod import ProductionConfig

            @pytest.fixture
            def graphql_server_options():
                return {"schema": "type Query { me: String! }", "resolvers": {"Query": {"me": "Ada"}}}

            @pytest.fixture
            def graphql_client_options():
                return {"config": ProductionConfig(backend="httpx"), "validate": True}
            """
        ),
    )
    project.settings("asyncio_mode = auto")
    project.write(
        "test_app.py",
        """
        from aiographql.client import GraphQLRequestException
        import pytest

        async def test_it(graphql_client, graphql_server):
            assert (await graphql_client.query("{ me }")).data == {"me": "Ada"}
            assert graphql_client.config.backend == "httpx"

        async def test_it_validates(graphql_client):
            with pytest.raises(Exception, match="Cannot query field 'you'"):
                await graphql_client.query("{ you }")
        """,
    )
    text, counts = project.run()
    assert counts == {"passed": 2}, text


def test_what_is_left_of_a_script_fails_the_test(project: Project) -> None:
    """The failure names what was scripted, and what came instead; the test itself fails, not its end."""
    project.settings("asyncio_mode = auto")
    project.write(
        "test_app.py",
        """
        from graphql_prod.testing import Answer

        async def test_left(graphql_client, graphql_server):
            graphql_server.script("Helo", Answer.page(503))
            await graphql_client.query("query Hello($x: String) { hello }", variables={"x": "y"})

        async def test_nothing_came(graphql_server):
            graphql_server.script(Answer.page(503))

        def test_plain(graphql_server):
            graphql_server.script(Answer.page(503))

        async def test_its_own_failure_comes_first(graphql_client, graphql_server):
            graphql_server.script("Helo", Answer.page(503))
            await graphql_client.query("query Hello { hello }")
            assert 1 == 2
        """,
    )
    text, counts = project.run()
    assert counts == {"failed": 4}, text
    assert text.count("scripted answers were not used") >= 3
    assert '1 x script("Helo")' in text
    assert "Hello with {'x': 'y'}" in text
    assert "nothing came" in text
    assert "assert 1 == 2" in text
    assert "Captured graphql_server" in text


def test_a_script_that_breaks_the_schema_fails_the_test(project: Project) -> None:
    """Whatever the program made of the answer."""
    project.settings("asyncio_mode = auto")
    project.write(
        "test_app.py",
        """
        import pytest

        @pytest.fixture
        def graphql_server_options():
            return {"schema": "type Query { me: String! }"}

        async def test_it(graphql_client, graphql_server):
            graphql_server.script("Me", {"me": None})
            response = await graphql_client.query("query Me { me }")
            assert "me" in str(response.errors[0])
        """,
    )
    text, counts = project.run()
    assert counts == {"failed": 1}, text
    assert "scripted answers broke the schema" in text
    assert "me" in text


def test_a_name_of_our_own_is_not_taken(project: Project) -> None:
    """A project that has fixtures of these names keeps its own."""
    project.write(
        "test_app.py",
        """
        import pytest

        @pytest.fixture
        def graphql_client():
            return "mine"

        def test_it(graphql_client):
            assert graphql_client == "mine"
        """,
    )
    text, counts = project.run()
    assert counts == {"passed": 1}, text
