"""What the client says of its attempts: its log records, read as facts."""

from __future__ import annotations

import contextlib
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@dataclass(frozen=True, slots=True)
class Failed:
    """An attempt that ended badly."""

    attempt: int
    """Its number in the call; of a subscription, since its connection was lost: 0 for the loss itself."""
    reason: str
    status: int | None
    reach: str
    """A value of ``SendStatus``; "" for a subscription, which may always be asked for again."""
    wait: float | None
    """Seconds until the next attempt. None: there is none, the retry budget is spent."""


@contextlib.contextmanager
def listening(heard: Callable[[Failed], None]) -> Iterator[None]:
    """Inside the block, ``heard`` is called for each attempt that fails and is not the call's last."""
    logger, handler = logging.getLogger("graphql_prod"), _Handler(heard)
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)  # refused credentials are told there
    try:
        yield
    finally:
        logger.setLevel(level)
        logger.removeHandler(handler)


class _Handler(logging.Handler):
    def __init__(self, heard: Callable[[Failed], None]) -> None:
        super().__init__(logging.INFO)
        self._heard = heard

    def emit(self, record: logging.LogRecord) -> None:
        facts = record.__dict__.get("graphql_prod", {})
        if "attempt" in facts:
            status, reach = facts.get("status"), facts.get("reach", "")
            self._heard(Failed(facts["attempt"], facts["reason"], status, reach, facts.get("wait")))
