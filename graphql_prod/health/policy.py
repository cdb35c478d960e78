"""The settings of health probes."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from graphql_prod.settings.base import Number, Policy


class HealthPolicy(Policy):
    """How often readiness is looked into.

    :param min_interval: seconds from one query to the next, at least; a probe that comes sooner gets the
        last result. 0 asks each time.
    """

    min_interval: Annotated[float, Number, Field(ge=0)] = 1.0
