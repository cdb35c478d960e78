"""What our log records have in common: their facts under one key, and a flood of them as one a second."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from graphql_prod import clock

if TYPE_CHECKING:
    from collections.abc import Hashable

logger: logging.Logger = logging.getLogger("graphql_prod")

KEY = "graphql_prod"
"""The one attribute of our records that is not logging's own."""
INTERVAL = 1.0
"""Seconds in which equal warnings are one record: the contract's figure."""
KEPT = 1000
"""Kinds of warnings that are remembered; a kind is a text, a host and a reason."""


def facts(**known: Any) -> dict[str, dict[str, Any]]:
    """What a record says beside its text: the argument ``extra`` of a logger's methods."""
    return {KEY: known}


class _Seen:
    """The last record of a kind, and how many like it were held back since."""

    __slots__ = ("count", "latest", "owner", "since", "timer")

    def __init__(self, since: float, owner: Hashable) -> None:
        self.since = since
        self.owner = owner
        self.count = 0
        self.latest: tuple[str, tuple[object, ...], dict[str, Any]] | None = None
        self.timer: asyncio.TimerHandle | None = None


class FloodGate:
    """Lets one warning of a kind pass a second, with the number of those that were held back.

    All warnings of one call pass, if its first one did: a call that is alone is told of in full.
    """

    def __init__(self) -> None:
        self._seen: OrderedDict[Hashable, _Seen] = OrderedDict()

    def warn(
        self, kind: Hashable, owner: Hashable, text: str, *args: object, extra: dict[str, dict[str, Any]]
    ) -> None:
        """Log a warning, now or within a second.

        :param kind: equal for warnings that count as one.
        :param owner: whose it is: a call's id.
        """
        now = clock.monotonic()
        seen = self._seen.get(kind)
        if seen is not None and now - seen.since < INTERVAL:
            if seen.owner == owner:
                logger.warning(text, *args, extra=extra)
                return
            seen.count += 1
            seen.latest = (text, args, extra)
            if seen.timer is None:
                self._arm(kind, seen, INTERVAL - (now - seen.since))
            return
        held = 0 if seen is None else self._taken(seen)
        self._seen[kind] = _Seen(now, owner)
        self._seen.move_to_end(kind)
        if len(self._seen) > KEPT:
            _, oldest = self._seen.popitem(last=False)
            self._taken(oldest)
        _say(held, text, args, extra)

    def _arm(self, kind: Hashable, seen: _Seen, seconds: float) -> None:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return  # the next warning of the kind tells the number
        seen.timer = loop.call_later(seconds, self._tell, kind, seen)

    def _tell(self, kind: Hashable, seen: _Seen) -> None:
        """The second is over: the last of those that were held back stands for all of them."""
        seen.timer = None
        if self._seen.get(kind) is not seen or seen.latest is None:
            return
        (text, args, extra), held = seen.latest, seen.count - 1
        seen.since, seen.owner, seen.count, seen.latest = clock.monotonic(), None, 0, None
        _say(held, text, args, extra)

    @staticmethod
    def _taken(seen: _Seen) -> int:
        held, seen.count, seen.latest = seen.count, 0, None
        if seen.timer is not None:
            seen.timer.cancel()
            seen.timer = None
        return held


def _say(held: int, text: str, args: tuple[object, ...], extra: dict[str, dict[str, Any]]) -> None:
    if held:
        extra = {KEY: {**extra[KEY], "repeated": held}}
        logger.warning(text + " (%d more like it in the last second)", *args, held, extra=extra)
    else:
        logger.warning(text, *args, extra=extra)
