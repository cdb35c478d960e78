"""The server's signals: at SIGTERM subscriptions end at once, and so do responses that iterate over them."""

from __future__ import annotations

import asyncio
import signal
import threading
from typing import TYPE_CHECKING, Any

from graphql_prod.loops import call_on

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import FrameType

    from graphql_prod.client import ProductionClient

SIGNALS = (signal.SIGTERM, signal.SIGINT)
_NOBODYS = (signal.SIG_DFL, signal.SIG_IGN, signal.default_int_handler, None)


class ServerSignals:
    """Stands before the handlers of a server while its application runs, and calls them.

    A server waits for open responses before it leaves the lifespan. At its signal ``ready()`` is false and
    subscriptions end after what waits in their queues; calls go on. In the main thread only, and only where
    somebody handles the signal: a program without a server has ``install_signal_handlers()``.
    """

    def __init__(self, clients: Iterable[ProductionClient]) -> None:
        self._clients = tuple(clients)
        self._loop = asyncio.get_running_loop()
        self._before: dict[int, Any] = {}

    def install(self) -> None:
        """Take the server's place."""
        if threading.current_thread() is not threading.main_thread():
            return
        for number in SIGNALS:
            before = signal.getsignal(number)
            if before not in _NOBODYS:
                self._before[number] = before
                signal.signal(number, self._handle)

    def restore(self) -> None:
        """Give the handlers back that nobody else has replaced."""
        if threading.current_thread() is not threading.main_thread():
            return
        for number, before in self._before.items():
            if signal.getsignal(number) == self._handle:
                signal.signal(number, before)
        self._before.clear()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        # The loop is interrupted somewhere: what touches its state is done in a step of its own.
        call_on(self._loop, self._leave)
        before = self._before.get(number)
        if callable(before):
            before(number, frame)

    def _leave(self) -> None:
        for client in self._clients:
            client._prod_leave()
