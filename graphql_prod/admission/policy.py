"""The settings of admission."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from graphql_prod.errors import Problem
from graphql_prod.settings.base import Number, Policy, Seconds

if TYPE_CHECKING:
    from collections.abc import Iterator


class AdmissionPolicy(Policy):
    """Which calls are still sent to an upstream that is ill. Off by default.

    Google's client-side throttling (Site Reliability Engineering, "Handling Overload"), counted over what was
    *sent*: a call is rejected with the probability ``(sent - k * ok) / (sent + 1)``. What counts as a failure
    speaks of the server's health: no connection, a status of 5XX, a time-out of an attempt.

    :param mode: ``"adaptive"``, or ``"off"``.
    :param k: how many calls are sent for each one that goes well; 2 is Google's number. Less rejects sooner.
    :param window: seconds over which calls are counted.
    :param min_requests: calls in the window from which the ratio decides. Below it, five failed calls in a
        row do; then one call is sent in each ``probe_interval``, and a success lets all pass again.
    :param max_rejection: the most that is rejected, so that the recovery is noticed; failsafe-go's 0.9.
    :param probe_interval: seconds after which a call is sent whatever the odds say.
    """

    mode: Literal["off", "adaptive"] = "off"
    k: Annotated[float, Number, Field(ge=1)] = 2.0
    window: Seconds = 10.0
    min_requests: Annotated[int, Number, Field(ge=1)] = 20
    max_rejection: Annotated[float, Number, Field(gt=0, le=1)] = 0.9
    probe_interval: Seconds = 5.0

    @classmethod
    def _contradictions(cls, named: dict[str, Any]) -> Iterator[Problem]:
        yield from super()._contradictions(named)
        default = {key: each.default for key, each in cls.model_fields.items()}
        others = sorted(key for key in named.keys() - {"mode"} if named[key] != default.get(key))
        if named.get("mode") == "off" and others:
            yield Problem(
                f"mode, {', '.join(others)}",
                "mode=off and settings of mode=adaptive contradict each other; leave one of them out",
            )
