"""Where settings come from: code over environment over file over defaults, each value with its source."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from graphql_prod.config import ProductionConfig
from graphql_prod.errors import ConfigurationError, Problem
from graphql_prod.runtime import logs
from graphql_prod.settings.base import Policy
from graphql_prod.settings.files import check_bounds, read_file, shown
from graphql_prod.settings.names import may_name_a_preset, preset_of, spelt
from graphql_prod.settings.variables import PREFIX, Key, Variables, checked_prefix
from graphql_prod.urls import redacted, same_upstream

logger: logging.Logger = logging.getLogger("graphql_prod")

Origin = Callable[[Key], str]
Source = str | os.PathLike[str] | Mapping[str, Any] | ProductionConfig | None
# Below this key a value is text, whatever it says, and names compare without case.
_HEADERS = ("headers",)
# What belongs to one upstream and must not go to another.
_OF_ONE_UPSTREAM = ("headers", "tls", "proxy")


@dataclass(slots=True)
class Loaded:
    """Settings, and where each of them came from.

    :ivar config: what holds.
    :ivar origins: the source of each setting that was named, by its key; the others are defaults.
    :ivar tables: the latest source of each table, for problems with a table as such.
    """

    config: ProductionConfig = field(default_factory=ProductionConfig)
    origins: dict[Key, str] = field(default_factory=dict)
    tables: dict[Key, str] = field(default_factory=dict)

    def origin(self, key: Key) -> str:
        """Where a setting came from: the nearest source at or above its key."""
        return _origin(self.origins, key)


def _origin(origins: Mapping[Key, str], key: Key) -> str:
    for end in range(len(key), 0, -1):
        if key[:end] in origins:
            return origins[key[:end]]
    if key[:1] == _HEADERS:  # a name that had to be written otherwise to be shown
        return next((origin for known, origin in origins.items() if known[:1] == _HEADERS), "default")
    return "default"


def load(
    source: Source = None,
    required: str | None = None,
    *,
    env_prefix: str | None = PREFIX,
    secrets_dir: str | os.PathLike[str] | None = None,
) -> Loaded:
    """The settings of a source, of the environment and of a secrets directory, checked together.

    Code wins over the environment, the environment over the directory, the directory over a file.

    :param required: a setting that must not be missing.
    :param env_prefix: what the names of the environment's variables begin with; None reads no environment.
    :param secrets_dir: a directory that holds one setting a file; None leaves it to the environment, which
        may name one in ``<PREFIX>SECRETS_DIR``.
    :raises ConfigurationError: listing every problem, each with its source.
    """
    prefix = checked_prefix(env_prefix)
    tree = _Tree()
    if isinstance(source, str | os.PathLike):
        values, twice = read_file(Path(source))
        tree.problems += [Problem(problem.key, problem.message, shown(source)) for problem in twice]
        tree.lay(values, lambda _: shown(source))
    environment = Variables.of_environment(prefix)
    folder = environment.secrets_dir()
    # A directory that the environment names belongs to the environment's upstream.
    deployed = [_Deployed(), _Deployed()] if secrets_dir is not None else [_Deployed()]
    if secrets_dir is not None:
        if not isinstance(secrets_dir, str | os.PathLike):
            raise ConfigurationError(f"secrets_dir must be a path, not {type(secrets_dir).__name__}")
        folder = os.fspath(secrets_dir)
    if folder is not None:
        tree.lay_variables(Variables.of_folder(Path(folder), prefix, tree.problems), deployed[0])
    tree.lay_variables(environment, deployed[-1])
    if isinstance(source, ProductionConfig) and not tree.values and not tree.problems:
        if missing := _missing(required, _named(source), prefix):
            raise ConfigurationError(missing)
        return Loaded(source, _leaves(source))
    if isinstance(source, ProductionConfig):
        tree.lay(_named(source), lambda _: "code")
    elif isinstance(source, Mapping):
        _check_mapping(source)
        tree.lay(source, lambda _: "code")
    elif source is not None and not isinstance(source, str | os.PathLike):
        raise ConfigurationError(
            "settings come from a file's name, a mapping or a ProductionConfig, "
            f"not from {type(source).__name__}"
        )
    if isinstance(source, ProductionConfig | Mapping):
        tree.problems += [problem for each in deployed for problem in each.sent_elsewhere(tree)]
    return tree.checked(required, prefix)


def _check_mapping(source: Mapping[str, Any]) -> None:
    try:
        check_bounds(source)
    except ValueError as error:
        raise ConfigurationError([Problem("the settings", f"cannot be used: {error}")]) from None


@dataclass(slots=True)
class _Deployed:
    """What the environment says of one upstream, or a secrets directory that code names.

    :ivar endpoint: what it names, if it does.
    :ivar source: where that stands.
    :ivar sources: where anything stands that it says.
    """

    endpoint: str | None = None
    source: str = ""
    sources: set[str] = field(default_factory=set)

    def sent_elsewhere(self, tree: _Tree) -> Iterator[Problem]:
        """The problem of a client that would send this upstream's headers to the one that code names."""
        other = tree.values.get("endpoint")
        if self.endpoint is None or not isinstance(other, str) or same_upstream(self.endpoint, other):
            return
        moved = [
            ".".join(key)
            for key, origin in tree.origins.items()
            if key[0] in _OF_ONE_UPSTREAM and origin in self.sources
        ]
        if moved:
            yield Problem(
                "endpoint",
                f"code names {redacted(other)}, but {self.source} names {redacted(self.endpoint)}, and "
                f"what is meant for that one would be used here too: {', '.join(moved)}. "
                'Give this client variables of its own: from_config(…, env_prefix="OTHER_"); or none: '
                "env_prefix=None",
                f"code and {self.source}",
            )


@dataclass(slots=True)
class _Tree:
    """Settings as they are laid over one another, leaf by leaf."""

    values: dict[str, Any] = field(default_factory=dict)
    origins: dict[Key, str] = field(default_factory=dict)
    tables: dict[Key, str] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def lay(self, values: Mapping[str, Any], origin: Origin) -> None:
        """Put values over those that are there."""
        self._lay(self.values, values, origin, ())

    def _lay(self, under: dict[str, Any], over: Mapping[str, Any], origin: Origin, path: Key) -> None:
        for given, value in over.items():
            key = spelt(under, str(given)) if path == _HEADERS else str(given)
            here = (*path, key)
            value = preset_of(here, value) or value
            if isinstance(value, Policy):
                value = _named(value)
            if isinstance(value, Mapping):
                below = under.get(key)
                if may_name_a_preset(here) and isinstance(below, str):
                    continue  # no preset is called so: that is told, whatever lies over it
                if not isinstance(below, dict):
                    below = under[key] = {}
                    self.origins.pop(here, None)
                self.tables[here] = origin(here)
                self._lay(below, value, origin, here)
            else:
                under[key] = value
                self.origins = {k: o for k, o in self.origins.items() if k[: len(here)] != here}
                self.tables.pop(here, None)
                self.origins[here] = origin(here)

    def lay_variables(self, layer: Variables, upstream: _Deployed) -> None:
        """Put what variables set over what is there, and warn where that is for another upstream."""
        values = layer.values(self.problems, self.values)
        under, origin = self.values.get("endpoint"), _origin(self.origins, ("endpoint",))
        self.lay(values, layer.origin)
        upstream.sources |= layer.sources()
        if not isinstance(over := values.get("endpoint"), str):
            return
        upstream.endpoint, upstream.source = over, layer.origin(("endpoint",))
        if not isinstance(under, str) or same_upstream(under, over):
            return
        kept = [
            ".".join(key)
            for key, place in self.origins.items()
            if key[0] in _OF_ONE_UPSTREAM and place not in upstream.sources
        ]
        logger.warning(
            "%s replaces the endpoint %s of %s by %s%s. If that is another upstream, give this client "
            "variables of its own (env_prefix) or none (env_prefix=None)",
            upstream.source,
            redacted(under),
            origin,
            redacted(over),
            f", which will be sent what {origin} says in {', '.join(kept)}" if kept else "",
            extra=logs.facts(variable=upstream.source),
        )

    def checked(self, required: str | None, prefix: str | None) -> Loaded:
        """The settings that these values make.

        :raises ConfigurationError: they make none.
        """
        loaded = Loaded(origins=self.origins, tables=self.tables)
        try:
            loaded.config = ProductionConfig(**self.values)
        except ConfigurationError as error:
            self.problems += [Problem(p.key, p.message, _sources(loaded, p.key)) for p in error.problems]
        if problems := [*_missing(required, self.values, prefix), *self.problems]:
            raise ConfigurationError(problems)
        return loaded


def _missing(required: str | None, values: Mapping[str, Any], prefix: str | None) -> list[Problem]:
    if required is None or values.get(required) is not None:
        return []
    variable = "" if prefix is None else f"set {prefix}{required.upper()} or "
    return [Problem(required, f"is missing; {variable}name it in the settings", "nowhere")]


def _sources(loaded: Loaded, key: str) -> str:
    """The source of a problem's key; of ``timeout.connect, attempt`` those of both."""
    for known, origin in loaded.origins.items():
        if ".".join(known) == key:  # a header's name may hold a point
            return origin
    group, _, names = key.rpartition(".")
    prefix = tuple(group.split(".")) if group else ()
    keys = [(*prefix, name.strip()) for name in names.split(",")]
    return " and ".join(dict.fromkeys(loaded.tables.get(key) or loaded.origin(key) for key in keys))


def _named(policy: Policy) -> dict[str, Any]:
    """What somebody named in a policy, and nothing of its defaults."""
    return {
        key: _named(value) if isinstance(value := getattr(policy, key), Policy) else value
        for key in type(policy).model_fields
        if key in policy.model_fields_set
    }


def _leaves(config: ProductionConfig) -> dict[Key, str]:
    tree = _Tree()
    tree.lay(_named(config), lambda _: "code")
    return tree.origins
