"""Which protocol a server chose, over aiohttp: it reports one that was not offered as none at all."""

from __future__ import annotations

import contextlib
from contextvars import ContextVar
from typing import TYPE_CHECKING

import aiohttp

from graphql_prod.subscriptions.protocol import UnofferedError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_OFFERED: ContextVar[Sequence[str] | None] = ContextVar("graphql_prod_offered", default=None)
"""What the upgrade that this task makes offers; None in every other request."""


async def _look(_: object, __: object, ended: aiohttp.TraceRequestEndParams) -> None:
    offered, response = _OFFERED.get(), ended.response
    chosen = response.headers.get("Sec-WebSocket-Protocol")
    if offered is None or chosen is None or response.status != 101:
        return
    if not any(part.strip() in offered for part in chosen.split(",")):
        response.close()
        raise UnofferedError(chosen.strip())


def _looking() -> aiohttp.TraceConfig:
    trace = aiohttp.TraceConfig()
    trace.on_request_end.append(_look)
    trace.freeze()
    return trace


_TRACE = _looking()


@contextlib.contextmanager
def offering(session: aiohttp.ClientSession, protocols: Sequence[str]) -> Iterator[None]:
    """An upgrade over a session, which may be a caller's: it has a hook of ours as long as this lasts.

    :raises UnofferedError: the server chose a protocol that is not among these.
    """
    token = _OFFERED.set(protocols)
    session.trace_configs.append(_TRACE)
    try:
        yield
    finally:
        session.trace_configs.remove(_TRACE)
        _OFFERED.reset(token)
