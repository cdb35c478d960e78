"""After a fork the child's client is its own, and what the parent has under way is not touched.

Real forks, of programs of their own: a child of pytest's would have its tasks and descriptors.
"""

from __future__ import annotations

import asyncio
import json
import os
import ssl
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trustme

from graphql_prod.testing import ScriptedServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from conftest import Backend

PROGRAM = Path(__file__).parent / "programs" / "forked.py"
pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")

HELLO = {"hello": "Hello, world!"}
WENT_ON = {
    "parent": "went on",
    "slow": {"slow": True},
    "again": HELLO,
    "active": True,
    "gaps": 0,
    "errors": [],
}


async def run(name: str, way: str, backend: Backend, url: str, *more: str) -> tuple[dict[str, Any], str]:
    """The facts that it tells, all in one; and what stands on its error stream."""
    command = (sys.executable, "-W", "default", str(PROGRAM), name, way, backend, url, *more)
    ended = await asyncio.to_thread(
        partial(subprocess.run, command, capture_output=True, text=True, timeout=45, check=False)
    )
    assert ended.returncode == 0, ended.stderr
    facts: dict[str, Any] = {}
    for line in ended.stdout.splitlines():
        facts |= json.loads(line)
    assert facts.pop("ended") == name, ended.stderr
    return facts, ended.stderr


def worked(facts: dict[str, Any]) -> dict[str, Any]:
    """Take the facts of a child that used the client out; returns the others."""
    assert facts.pop("status") == 0
    assert facts.pop("child") == "worked"
    assert facts.pop("state") == "open"
    assert facts.pop("counts") == [0, 0, 0, 0], "calls, subscriptions, sockets or slots of the parent's"
    assert facts.pop("data") == HELLO
    assert facts.pop("ready")
    assert facts.pop("events") == 3
    assert facts.pop("clean")
    assert facts.pop("seconds") < 5, "it has waited for something of the parent's"
    assert facts.pop("after") == "closed"
    return facts


@pytest.fixture
async def secure(tmp_path: Path) -> AsyncIterator[tuple[ScriptedServer, str]]:
    """A server over TLS, and the file with its authority."""
    authority = trustme.CA(key_type=trustme.KeyType.ECDSA)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1", key_type=trustme.KeyType.ECDSA).configure_cert(context)
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    async with ScriptedServer(ssl_context=context) as server:
        server.tick = 0.002
        yield server, str(path)


@pytest.mark.parametrize("way", ["_exit", "exit", "thread", "multiprocessing"])
async def test_a_child_uses_and_closes_the_client(
    counting: ScriptedServer, backend: Backend, way: str
) -> None:
    """It has nothing of the parent's and waits for nothing of it; the parent's work loses nothing."""
    facts, err = await run("used", way, backend, counting.url)
    assert worked(facts) == WENT_ON
    assert "Warning" not in err.replace("DeprecationWarning", "")
    assert "Unclosed" not in err


@pytest.mark.parametrize("name", ["used", "unused"])
async def test_a_child_says_nothing_over_the_parents_tls(
    secure: tuple[ScriptedServer, str], backend: Backend, name: str
) -> None:
    """However it ends, no alert and no close frame goes out: the parent's connections are used on."""
    server, authority = secure
    facts, err = await run(name, "exit", backend, server.url, authority)
    assert (worked(facts) if name == "used" else facts) == WENT_ON | ({} if name == "used" else {"status": 0})
    assert "Unclosed" not in err


async def test_a_child_that_only_ends_disturbs_nothing(counting: ScriptedServer, backend: Backend) -> None:
    """What is collected while it ends belongs to the parent, whose selector and sockets are shared."""
    facts, err = await run("unused", "exit", backend, counting.url)
    connections = counting.connections
    assert facts == WENT_ON | {"status": 0}
    assert "Unclosed" not in err
    assert connections <= 4, "a connection of the parent's was lost"


async def test_a_given_session_that_the_parent_used_is_refused(
    counting: ScriptedServer, backend: Backend
) -> None:
    """Two processes on its connections would get each other's answers. Closing the client still works."""
    facts, _ = await run("given", "_exit", backend, counting.url)
    assert facts["status"] == 0
    # Over httpx a socket is opened by websockets, and has nothing of the session.
    assert len(facts["texts"]) == (2 if backend == "aiohttp" else 1)
    assert all(each.startswith("ClientClosedError: Nothing was sent") for each in facts["texts"])
    assert (facts["ready"], facts["closed"]) == (False, "closed")
    assert facts["data"] == {"counter": 1}
    assert counting.executions["increment"] == 1


async def test_a_child_of_a_callback_is_not_subscribed(counting: ScriptedServer, backend: Backend) -> None:
    """The subscription object is there and not active; unsubscribing it does not wait for the parent."""
    facts, _ = await run("in_mid_call", "_exit", backend, counting.url)
    assert facts.pop("active") is True  # the parent's, told last
    assert worked(facts) == {"parent": "went on"}


async def test_a_child_of_a_shutdown_is_open(counting: ScriptedServer, backend: Backend) -> None:
    """The end that is under way is the parent's."""
    facts, _ = await run("while_draining", "_exit", backend, counting.url)
    clean = facts["clean"]
    assert worked(facts) == {"parent": "went on"}
    assert clean


@pytest.mark.parametrize("way", ["client", "coordinator"])
async def test_sigterm_ends_a_child_of_a_parent_with_handlers(
    counting: ScriptedServer, backend: Backend, way: str
) -> None:
    """``Process.terminate()`` and a pool's end work; the parent does not take it for its own signal."""
    facts, _ = await run("terminated", way, backend, counting.url)
    assert facts == {"exitcode": -15, "squares": [1, 2], "handlers": ["True"], "state": "open"}


async def test_sigterm_ends_a_child_that_has_just_been_begun(
    counting: ScriptedServer, backend: Backend
) -> None:
    """Python forgets in a child what came before it was ready: it is held back until then, and no longer."""
    facts, _ = await run("terminated_at_once", "_", backend, counting.url)
    assert facts == {"codes": [-15], "before": "open", "blocked": 0}


@pytest.mark.parametrize("way", ["before", "after"])
async def test_a_service_with_a_daemon_helper_ends_at_sigterm(
    counting: ScriptedServer, backend: Backend, way: str
) -> None:
    """Whether the helper was begun before the handlers or after them."""
    facts, _ = await run("serving", way, backend, counting.url)
    assert facts == {"clean": True}
