"""Whether to send a call: a pure decision over what is known of the upstream. The time is given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from graphql_prod.admission.policy import AdmissionPolicy

STREAK = 5
"""Failed calls in a row that open it where there is little traffic: the contract's figure."""
SHARE = 0.15
"""The share of the load that an upstream in an outage may get at most: the contract's figure."""
NOTICED = 0.1
"""Below this probability nothing is rejected: so few failures may be chance."""


@dataclass(frozen=True, slots=True)
class Health:
    """What is known of an upstream.

    :ivar offered: calls that asked within the window.
    :ivar sent: those that were sent.
    :ivar ok: those that went well.
    :ivar streak: calls that have failed in a row.
    :ivar since: seconds since the last call was sent.
    :ivar open: whether calls are being rejected.
    """

    offered: int = 0
    sent: int = 0
    ok: int = 0
    streak: int = 0
    since: float = 0.0
    open: bool = False


def rejection(policy: AdmissionPolicy, health: Health) -> float:
    """The probability to reject a call by the ratio."""
    if health.open and health.ok == 0:
        return policy.max_rejection  # nothing speaks for it, however few were sent
    ratio = (health.sent - policy.k * health.ok) / (health.sent + 1)
    return min(max(ratio, 0.0), policy.max_rejection)


def is_quiet(policy: AdmissionPolicy, health: Health) -> bool:
    """Whether there is so little traffic that one call in each ``probe_interval`` is the larger share."""
    return health.offered * SHARE <= policy.window / policy.probe_interval


def opens(policy: AdmissionPolicy, health: Health) -> bool:
    """Whether to begin to reject calls."""
    if health.open:
        return False
    if health.sent >= policy.min_requests:
        return rejection(policy, health) >= NOTICED
    return health.streak >= STREAK


def closes(policy: AdmissionPolicy, health: Health, *, success: bool) -> bool:
    """Whether to let all calls pass again.

    :param success: whether a call has just gone well. Nothing else closes it, and time alone does not.
    """
    if not health.open or not success:
        return False
    return is_quiet(policy, health) or rejection(policy, health) == 0.0


def admits(policy: AdmissionPolicy, health: Health, draw: float) -> bool:
    """Whether to send a call.

    :param draw: a number drawn evenly from 0 to 1.
    """
    if not health.open or health.since >= policy.probe_interval:
        return True
    return not is_quiet(policy, health) and draw >= rejection(policy, health)
