"""Arguments of subscriptions that cannot work are refused at once; nothing is opened for them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from aiographql.client import GraphQLClientException
from subscribing import COUNT, Follower, client_of

from graphql_prod import ConfigurationError

if TYPE_CHECKING:
    from conftest import Backend
    from subscribing import Mode

    from graphql_prod.testing import ScriptedServer

BOTH = ("graphql-transport-ws", "graphql-ws")


def named(value: object) -> str:
    """The same in each process: no address in it."""
    return repr(value).partition(" object at ")[0]


BAD: list[Any] = [
    (),
    [],
    "",
    set(),
    "bad proto",
    "graphql-subscriptions",
    "graphql-transport-ws,graphql-ws",
    "GraphQL-WS",
    ("graphql-transport-ws", "soap"),
    (None,),
    (b"graphql-ws",),
    (("graphql-ws",),),
    b"graphql-ws",
    5,
    None,
    dict.fromkeys(BOTH, 1),
    object(),
]


@pytest.mark.parametrize("protocols", BAD, ids=named)
@pytest.mark.parametrize("share", [False, True])
async def test_protocols_that_we_do_not_speak(
    server: ScriptedServer, backend: Backend, mode: Mode, protocols: Any, share: bool
) -> None:
    """Empty, unknown, no text, no order: an error of our family that says what is allowed."""
    async with client_of(server.url, backend, share_connection=share) as client:
        begin = client.subscribe if mode == "subscribe" else lambda *a, **k: anext(client.stream(*a, **k))
        with pytest.raises(GraphQLClientException, match="'graphql-transport-ws' and 'graphql-ws'") as caught:
            await begin(COUNT, protocols=protocols)
        assert client.stats().sockets == 0
    assert isinstance(caught.value, ConfigurationError)
    assert "protocols" in str(caught.value)
    assert not server.upgrades + server.requests


@pytest.mark.parametrize(
    ("protocols", "offered"),
    [
        (BOTH, BOTH),
        (list(reversed(BOTH)), BOTH[::-1]),
        ("graphql-ws", ("graphql-ws",)),
        (iter(BOTH), BOTH),
        (("graphql-ws", "graphql-ws"), ("graphql-ws",)),
    ],
    ids=named,
)
async def test_protocols_that_we_speak(
    counting: ScriptedServer, backend: Backend, mode: Mode, protocols: Any, offered: tuple[str, ...]
) -> None:
    """They are offered in the order given, each once."""
    if not isinstance(protocols, str | tuple | list):
        protocols = iter(BOTH)  # each test needs one of its own
    async with (
        client_of(counting.url, backend) as client,
        Follower(client, mode, protocols=protocols) as follower,
    ):
        await follower.came()
    sent = counting.upgrades[0].headers["Sec-WebSocket-Protocol"]
    assert tuple(name.strip() for name in sent.split(",")) == offered
