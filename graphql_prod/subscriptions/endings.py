"""What a socket, an upgrade or a handshake ends with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphql_prod.headers import copied
from graphql_prod.texts.quoting import quoted

if TYPE_CHECKING:
    from collections.abc import Mapping

    from graphql_prod.calls.fault_table import Fault
    from graphql_prod.errors import Phase


class SocketClosed(Exception):  # noqa: N818 - an ending, not always a failure
    """The socket has ended: with a close frame, or without one (``code`` is None).

    :ivar ours: whether we closed it, since the server broke the WebSocket protocol or sent too much;
        None: not known.
    :ivar init: how long the ``connection_init`` was, where that was all we had sent.
    """

    def __init__(self, code: int | None, reason: str | None = None, *, ours: bool | None = None) -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason
        self.ours = ours
        self.init: int | None = None


class UpgradeRefusedError(Exception):
    """The server answered the upgrade with an HTTP status.

    ``by_get``: or a proxy did, which was asked for the upgrade itself and not for a tunnel.
    """

    def __init__(self, status: int, headers: Mapping[str, str], *, by_get: bool = False) -> None:
        super().__init__(status)
        self.status = status
        self.by_get = by_get
        self.headers: Mapping[str, str] = copied(headers)


class HandshakeError(Exception):
    """No WebSocket came about, for a reason that has words: a fault, and what the server said of it."""

    def __init__(self, fault: Fault, said: str = "") -> None:
        super().__init__(fault.what, said)
        self.fault = fault
        self.said: str = quoted(said)


class AskedToReconnectError(Exception):
    """We have ended the connection, to make another one at once; the text says why."""


class RestartAskedError(Exception):
    """The server has ended the only subscription of a connection, which shall be subscribed anew."""


class RejectedError(Exception):
    """The server answered ``connection_init`` with ``connection_error``."""


class CredentialsRefusedError(Exception):
    """The server refused the credentials in its answer to one subscription, and there may be others."""


class SilenceError(Exception):
    """The connection was given up: nothing came for too long."""

    def __init__(self, what: str, hint: str, phase: Phase) -> None:
        super().__init__(what)
        self.hint = hint
        self.phase: Phase = phase


def not_acknowledged(limit: float | None, *, upgraded: bool) -> SilenceError:
    """The end of ``ack_timeout``, before or after the upgrade was answered."""
    what = "did not acknowledge the connection" if upgraded else "did not answer the WebSocket upgrade"
    return SilenceError(
        f"{what} within {limit:g} s",
        "See what it is busy with, or raise subscriptions.ack_timeout.",
        "read" if upgraded else "connect",
    )
