"""Fixtures of these tests."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from timing_out import Owner


@pytest.fixture(params=["owned", "given"])
def owner(request: pytest.FixtureRequest) -> Owner:
    """Each test that asks for it runs with a session of ours, and with a caller's."""
    return request.param  # type: ignore[no-any-return]


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port where connections are taken by the kernel, and nobody ever reads or says a word."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        listener.bind(("127.0.0.1", 0))
        listener.listen(16)
        yield listener.getsockname()[1]
