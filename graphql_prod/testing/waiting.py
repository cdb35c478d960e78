"""Take the waits out of a test."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from graphql_prod import clock

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def no_waiting() -> Iterator[None]:
    """Inside the block, waits between attempts end at once, for every client of this process.

    Everything is decided as without it: how many attempts there are, what the budget says, and that a
    ``Retry-After`` longer than what is left of the total is not waited for. Time limits stay real.
    """
    with clock.using(clock.InstantClock()):
        yield
