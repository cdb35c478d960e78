"""What an upgrade over aiohttp is answered with, looked at before aiohttp acts on it.

aiohttp follows a redirect of an upgrade, with every header that is not called ``Authorization``, and reports
a protocol that was not offered as none at all. The session may be a caller's: a hook of ours stands in it as
long as an upgrade of ours lasts, and looks at nothing else.
"""

from __future__ import annotations

import contextlib
from contextvars import ContextVar
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import aiohttp

from graphql_prod.errors import ConfigurationError
from graphql_prod.sessions.upgrades import refused_redirect
from graphql_prod.subscriptions.protocol import UnofferedError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from multidict import CIMultiDict

_OFFERED: ContextVar[Sequence[str] | None] = ContextVar("graphql_prod_offered", default=None)
"""What the upgrade that this task makes offers; None in every other request."""


def _is_ours(headers: CIMultiDict[str]) -> bool:
    """Whether it is the upgrade, and no request that a middleware of the session makes meanwhile."""
    offered = _OFFERED.get()
    return offered is not None and headers.get("Sec-WebSocket-Protocol") == ",".join(offered)


async def _look(_: object, __: object, ended: aiohttp.TraceRequestEndParams) -> None:
    offered, response = _OFFERED.get(), ended.response
    chosen = response.headers.get("Sec-WebSocket-Protocol")
    if offered is None or chosen is None or response.status != 101 or not _is_ours(ended.headers):
        return
    if not any(part.strip() in offered for part in chosen.split(",")):
        response.close()
        raise UnofferedError(chosen.strip())


async def _refuse(_: object, __: object, redirected: aiohttp.TraceRequestRedirectParams) -> None:
    if _is_ours(redirected.headers):
        redirected.response.close()
        location = redirected.response.headers.get("Location", "")
        raise refused_redirect(str(redirected.url), location)


def _looking() -> aiohttp.TraceConfig:
    trace = aiohttp.TraceConfig()
    trace.on_request_redirect.append(_refuse)
    trace.on_request_end.append(_look)
    trace.freeze()
    return trace


_TRACE = _looking()
_under_way: WeakKeyDictionary[aiohttp.ClientSession, int] = WeakKeyDictionary()
"""How many upgrades of ours each session makes now."""


@contextlib.contextmanager
def offering(session: object, protocols: Sequence[str]) -> Iterator[None]:
    """An upgrade over a session, which may be a caller's: it has a hook of ours as long as this lasts.

    :raises UnofferedError: the server chose a protocol that is not among these.
    :raises TransportError: the server redirected it; nothing was sent to the target.
    :raises ConfigurationError: the session takes no hook.
    """
    if not isinstance(session, aiohttp.ClientSession):
        yield  # it takes none
        return
    hooks = session.trace_configs
    if not isinstance(hooks, list):
        raise ConfigurationError(
            "the trace_configs of the given aiohttp session are no list: without a hook there a redirect of "
            "a WebSocket upgrade would take the credentials along. Give the session a list"
        )
    token = _OFFERED.set(protocols)
    _under_way[session] = _under_way.get(session, 0) + 1
    if _TRACE not in hooks:  # one for all of them: each of aiohttp's requests runs every hook that it finds
        # First: another one may wait, and what it waits for may never come.
        hooks.insert(0, _TRACE)
    try:
        yield
    finally:
        left = _under_way[session] - 1
        if left:
            _under_way[session] = left
        else:
            del _under_way[session]
            with contextlib.suppress(ValueError):  # its owner has emptied the list meanwhile
                hooks.remove(_TRACE)
        _OFFERED.reset(token)
