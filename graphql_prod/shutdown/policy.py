"""The settings of the shutdown, and what else may be given as a deadline."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar

from pydantic import Field

from graphql_prod.errors import ConfigurationError
from graphql_prod.settings.base import Number, Policy


class ShutdownPolicy(Policy):
    """How long the end of a client may take.

    :param deadline: seconds for everything under way to finish; what is left then is cut. Kubernetes kills
        30 s after SIGTERM, so the default leaves 5 s to close and to report. None means no limit.
    :param lame_duck: seconds at the beginning in which ``ready()`` is false and calls are still taken, so
        that a load balancer stops sending before calls are refused. A part of ``deadline``; a deadline of 0
        skips it.
    """

    deadline: Annotated[float, Number, Field(ge=0)] | None = 25.0
    lame_duck: Annotated[float, Number, Field(ge=0)] = 0.0

    nested: ClassVar[tuple[tuple[str, str], ...]] = (("lame_duck", "deadline"),)


def seconds_of(deadline: object) -> float:
    """A deadline given in code; less than nothing is nothing.

    :raises ConfigurationError: it is no number of seconds.
    """
    if isinstance(deadline, bool) or not isinstance(deadline, int | float) or math.isnan(deadline):
        raise ConfigurationError(f"deadline must be a number of seconds, not {deadline!r}")
    return max(0.0, float(deadline))
