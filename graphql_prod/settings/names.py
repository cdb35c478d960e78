"""Which settings there are, by their path of names; asked by every reader of settings that are texts."""

from __future__ import annotations

from types import NoneType
from typing import TYPE_CHECKING, Any, get_args

from graphql_prod.config import OperationPolicy, ProductionConfig
from graphql_prod.resilience.timeouts import PRESETS
from graphql_prod.settings.base import Policy
from graphql_prod.throttling.policy import MODES, throttling_policy_of
from graphql_prod.throttling.policy import PRESETS as THROTTLING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

DELIMITER = "__"
# What a file or an environment calls None, which neither can hold.
_NOTHING = ("none", "null")


def is_known(path: Sequence[str], model: type[Policy] = ProductionConfig) -> bool:
    """Whether a path of names is a setting, or a group of settings."""
    name, rest = path[0], path[1:]
    if name not in model.model_fields:
        return False
    if name == "operations" and len(rest) > 1:
        return is_known(rest[1:], OperationPolicy)
    group = group_of(model, name)
    if group is None:
        return not rest or name in ("headers", "operations")
    return not rest or is_known(rest, group)


def known_names(model: type[Policy] = ProductionConfig, prefix: str = "") -> Iterator[str]:
    """Every setting and group, as a variable names it without its prefix."""
    for name in model.model_fields:
        yield prefix + name.upper()
        group = group_of(model, name)
        if group is not None:
            yield from known_names(group, f"{prefix}{name.upper()}{DELIMITER}")


def group_of(model: type[Policy], name: str) -> type[Policy] | None:
    """The model of a group of settings; None for a single setting."""
    kind = ProductionConfig if model is OperationPolicy else model
    default = kind.model_fields[name].get_default(call_default_factory=True)
    return type(default) if isinstance(default, Policy) else None


def may_name_a_preset(key: Sequence[str]) -> bool:
    """True for what may name a preset: the client's timeout or throttling, or an operation's timeout."""
    return tuple(key) in (("timeout",), ("throttling",)) or (
        len(key) == 3 and (key[0], key[2]) == ("operations", "timeout")
    )


def preset_of(key: Sequence[str], value: object) -> Policy | None:
    """The preset that a timeout names; None where it names none."""
    if not isinstance(value, str):
        return None
    if tuple(key) == ("throttling",):
        known = value.strip().lower()
        return throttling_policy_of(known) if known in (*THROTTLING, *MODES) else None
    return PRESETS.get(value.lower()) if may_name_a_preset(key) else None


def spelt(under: Mapping[str, Any], name: str) -> str:
    """A name as it is known already, compared without case."""
    return next((known for known in under if known.lower() == name.lower()), name)


def from_texts(values: dict[str, Any]) -> dict[str, Any]:
    """Settings of a file or an environment as they are meant.

    The word for None is None where a setting may be None. A header's value loses one newline at its end:
    editors and ``echo`` put one there.
    """
    values = _without_nothing(values, ProductionConfig)
    if isinstance(headers := values.get("headers"), dict):
        values["headers"] = {
            name: without_newline(value) if isinstance(value, str) else value
            for name, value in headers.items()
        }
    return values


def without_newline(text: str) -> str:
    """The text without one newline at its end; a second one stays."""
    return text[:-2] if text.endswith("\r\n") else text.removesuffix("\n")


def _without_nothing(values: dict[str, Any], model: type[Policy] | None) -> dict[str, Any]:
    return {key: _meant(key, value, model) for key, value in values.items()}


def _meant(key: str, value: Any, model: type[Policy] | None) -> Any:
    known = model is not None and key in model.model_fields
    if isinstance(value, dict):
        if model is ProductionConfig and key == "operations":
            return {
                name: _without_nothing(below, OperationPolicy) if isinstance(below, dict) else below
                for name, below in value.items()
            }
        return _without_nothing(value, group_of(model, key) if model is not None and known else None)
    if isinstance(value, str) and value.lower() in _NOTHING and model is not None and known:
        return None if NoneType in get_args(model.model_fields[key].annotation) else value
    return value
