"""What a child that was forked has of its parent's: nothing that it would use, close or wait for."""

from __future__ import annotations

import contextlib
import os
import socket
from typing import TYPE_CHECKING, Any, Protocol
from weakref import WeakSet

if TYPE_CHECKING:
    from collections.abc import Iterator


class Inherited(Protocol):
    """Something with state that belongs to one process."""

    def begin_anew(self) -> object:
        """Be as new, in a child that has just been forked; returns what belongs to the parent.

        Nothing is closed, cancelled, sent or waited for. Locks may be held by threads that are no more.
        """


_known: WeakSet[Inherited] = WeakSet()
_sockets: WeakSet[socket.socket] = WeakSet()
_websockets: WeakSet[Any] = WeakSet()

_kept: list[object] = []
"""What belongs to parents.

The child neither closes nor collects it: both look as if the connections had ended.
"""


def follow(inherited: Inherited) -> None:
    """Have it begin anew in every child that is forked while it lives."""
    _known.add(inherited)


def new_socket(address: tuple[Any, ...]) -> socket.socket:
    """A socket for an address, as ``getaddrinfo`` gives it, that leads nowhere in a child."""
    family, kind, protocol, *_ = address
    made = socket.socket(family=family, type=kind, proto=protocol)
    _sockets.add(made)
    return made


def follow_websocket(connection: Any) -> None:
    """Have the socket of a connection of websockets lead nowhere in a child."""
    _websockets.add(connection)


def _descriptors() -> Iterator[int]:
    for each in list(_sockets):
        yield each.fileno()
    for connection in list(_websockets):
        with contextlib.suppress(Exception):  # whatever it says of itself in the middle of its end
            yield connection.transport.get_extra_info("socket").fileno()


def _lead_nowhere() -> None:
    """Put something else in the place of the child's copies of the parent's sockets.

    What is collected at the child's end would else be closed by its parts: a TLS connection says goodbye, and
    a socket is taken out of the selector that the parent waits with, for the kernel's is shared.
    """
    descriptors = [each for each in _descriptors() if each >= 0]
    if not descriptors:
        return
    nowhere = os.open(os.devnull, os.O_RDWR)
    for each in descriptors:
        os.dup2(nowhere, each, inheritable=False)
    os.close(nowhere)


def _in_a_child() -> None:
    with contextlib.suppress(OSError):  # no descriptor is left: they stay open, and are kept
        _lead_nowhere()
    _kept.extend([inherited.begin_anew() for inherited in list(_known)])


if hasattr(os, "register_at_fork"):  # not where there is no fork
    os.register_at_fork(after_in_child=_in_a_child)
