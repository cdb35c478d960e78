"""Where settings come from: code over environment over file over defaults, each value with its source."""

from __future__ import annotations

import difflib
import json
import logging
import os
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from graphql_prod.config import ProductionConfig
from graphql_prod.errors import ConfigurationError, Problem
from graphql_prod.policy import Policy
from graphql_prod.timeouts import PRESETS

PREFIX = "GRAPHQL_PROD_"
DELIMITER = "__"

logger = logging.getLogger("graphql_prod")

Key = tuple[str, ...]
Origin = Callable[[Key], str]
# What a file or an environment calls None, which neither can hold.
_NOTHING = ("none", "null")
# Below these keys a name is the user's own, and a value is text.
_FREE = ("headers",)


@dataclass(slots=True)
class Loaded:
    """Settings, and where each of them came from.

    :ivar config: what holds.
    :ivar origins: the source of each setting that was named, by its key; the others are defaults.
    """

    config: ProductionConfig = field(default_factory=ProductionConfig)
    origins: dict[Key, str] = field(default_factory=dict)

    def origin(self, key: Key) -> str:
        """Where a setting came from: the nearest source at or above its key."""
        for end in range(len(key), 0, -1):
            if key[:end] in self.origins:
                return self.origins[key[:end]]
        return "default"


def load(
    source: str | os.PathLike[str] | Mapping[str, Any] | ProductionConfig | None = None,
    required: str | None = None,
) -> Loaded:
    """The settings of a source and of the environment, checked together.

    :param required: a setting that must not be missing.

    :raises ConfigurationError: listing every problem, each with its source.
    """
    tree = _Tree()
    if isinstance(source, str | os.PathLike):
        tree.lay(_read(Path(source)), lambda _: str(source))
    environment = _environment()
    if isinstance(source, ProductionConfig) and not environment[0]:
        if missing := _missing(required, _named(source)):
            raise ConfigurationError(missing)
        return Loaded(source, _leaves(source))
    tree.lay(*environment)
    if isinstance(source, ProductionConfig):
        tree.lay(_named(source), lambda _: "code")
    elif isinstance(source, Mapping):
        tree.lay(source, lambda _: "code")
    elif source is not None and not isinstance(source, str | os.PathLike):
        raise ConfigurationError(
            "settings come from a file's name, a mapping or a ProductionConfig, "
            f"not from {type(source).__name__}"
        )
    return tree.checked(required)


@dataclass(slots=True)
class _Tree:
    """Settings as they are laid over one another, leaf by leaf."""

    values: dict[str, Any] = field(default_factory=dict)
    origins: dict[Key, str] = field(default_factory=dict)

    def lay(self, values: Mapping[str, Any], origin: Origin) -> None:
        """Put values over those that are there."""
        self._lay(self.values, values, origin, ())

    def _lay(self, under: dict[str, Any], over: Mapping[str, Any], origin: Origin, path: Key) -> None:
        for given, value in over.items():
            key = _spelt(under, str(given)) if path[:1] == _FREE else str(given)
            here = (*path, key)
            if here == ("timeout",) and isinstance(value, str) and value.lower() in PRESETS:
                value = _named(PRESETS[value.lower()])
            if isinstance(value, Mapping):
                below = under.get(key)
                if not isinstance(below, dict):
                    below = under[key] = {}
                self._lay(below, value, origin, here)
            else:
                under[key] = value
                self.origins = {k: o for k, o in self.origins.items() if k[: len(here)] != here}
                self.origins[here] = origin(here)

    def checked(self, required: str | None) -> Loaded:
        """The settings that these values make.

        :raises ConfigurationError: they make none.
        """
        loaded = Loaded(origins=self.origins)
        try:
            loaded.config = ProductionConfig(**self.values)
        except ConfigurationError as error:
            problems = [Problem(p.key, p.message, _sources(loaded, p.key)) for p in error.problems]
            raise ConfigurationError([*_missing(required, self.values), *problems]) from None
        if missing := _missing(required, self.values):
            raise ConfigurationError(missing)
        return loaded


def _missing(required: str | None, values: Mapping[str, Any]) -> list[Problem]:
    if required is None or values.get(required) is not None:
        return []
    variable = PREFIX + required.upper()
    return [Problem(required, f"is missing; set {variable} or name it in the settings", "nowhere")]


def _sources(loaded: Loaded, key: str) -> str:
    """The source of a problem's key; of ``timeout.connect, attempt`` those of both."""
    group, _, names = key.rpartition(".")
    prefix = tuple(group.split(".")) if group else ()
    found = [loaded.origin((*prefix, name.strip())) for name in names.split(",")]
    return " and ".join(dict.fromkeys(found))


def _spelt(under: Mapping[str, Any], name: str) -> str:
    """A header's name as it is known already; header names compare without case."""
    return next((known for known in under if known.lower() == name.lower()), name)


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


def _read(path: Path) -> dict[str, Any]:
    parse = {".toml": _toml, ".json": _json, ".yaml": _yaml, ".yml": _yaml}.get(path.suffix.lower())
    if parse is None:
        raise _unusable(path, "its kind is not known; there are .toml, .json, .yaml and .yml")
    try:
        values = parse(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError:
        raise _unusable(path, "it is not UTF-8") from None
    except OSError as error:
        raise _unusable(path, f"it cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise _unusable(path, f"it is no valid {path.suffix[1:].upper()}: {error}") from None
    if not isinstance(values, dict):
        raise _unusable(path, "it must hold a table of settings")
    return _without_nothing(values)


def _unusable(path: Path, problem: str) -> ConfigurationError:
    return ConfigurationError([Problem("the file", problem, str(path))])


def _toml(text: str) -> Any:
    return tomllib.loads(text)


def _json(text: str) -> Any:
    return json.loads(text)


def _yaml(text: str) -> Any:
    try:
        import yaml
    except ImportError:
        raise ConfigurationError(
            "settings in YAML need PyYAML: pip install 'graphql-prod[yaml]', or use TOML or JSON"
        ) from None
    try:
        return yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}, column {mark.column + 1}" if mark else "somewhere"
        raise ValueError(f"{getattr(error, 'problem', 'not readable')} ({where})") from None


def _without_nothing(values: dict[str, Any], path: Key = ()) -> dict[str, Any]:
    """The values, with the word for None made None, except where a value is text."""
    return {
        key: _without_nothing(value, (*path, key))
        if isinstance(value, dict)
        else None
        if isinstance(value, str) and value.lower() in _NOTHING and path[:1] != _FREE
        else value
        for key, value in values.items()
    }


def _environment() -> tuple[dict[str, Any], Origin]:
    """What the environment names, by pydantic-settings; unknown names are only warned of."""
    ours = [name for name in os.environ if name.upper().startswith(PREFIX)]
    if not ours:
        return {}, lambda _: "the environment"
    _refuse_contradictions(ours)
    values = _without_nothing(_from_environment())
    _set_aside_unknown(ours, values)
    if isinstance(headers := values.get("headers"), dict):
        values["headers"] = {name.replace("_", "-"): value for name, value in headers.items()}
    spellings = {name.upper(): name for name in ours}
    return values, lambda key: _variable(key, spellings)


def _from_environment() -> dict[str, Any]:
    from pydantic import create_model
    from pydantic_settings import BaseSettings, EnvSettingsSource, SettingsError

    kinds: dict[str, Any] = {
        name: (dict[str, Any] | str | None if _is_group(name) else Any, None)
        for name in ProductionConfig.model_fields
    }
    model = create_model("Environment", __base__=BaseSettings, **kinds)

    try:
        source = EnvSettingsSource(
            model, case_sensitive=False, env_prefix=PREFIX, env_nested_delimiter=DELIMITER
        )
        return dict(source())
    except SettingsError as error:
        raise ConfigurationError(str(error)) from None


def _is_group(name: str) -> bool:
    return name in ("headers", "operations") or isinstance(
        ProductionConfig.model_fields[name].get_default(call_default_factory=True), Policy
    )


def _variable(key: Key, spellings: Mapping[str, str]) -> str:
    """The environment variable behind a key."""
    for end in range(len(key), 0, -1):
        name = PREFIX + DELIMITER.join(part.upper().replace("-", "_") for part in key[:end])
        if name in spellings:
            return spellings[name]
    return "the environment"


def _refuse_contradictions(ours: list[str]) -> None:
    whole = f"{PREFIX}TIMEOUT"
    parts = sorted(name for name in ours if name.upper().startswith(whole + DELIMITER))
    if whole in {name.upper() for name in ours} and parts:
        message = "a preset and single limits contradict each other; unset the one or the others"
        raise ConfigurationError([Problem("timeout", message, f"{whole} and {', '.join(parts)}")])


def _set_aside_unknown(ours: list[str], values: dict[str, Any]) -> None:
    """Warn of variables that are no settings; Kubernetes injects some for a service of our name."""
    for name in ours:
        path = name.upper().removeprefix(PREFIX).lower().split(DELIMITER)
        if _known(ProductionConfig, path):
            continue
        _remove(values, path)
        close = difflib.get_close_matches(name.upper(), _known_variables(), n=1, cutoff=0.8)
        logger.warning(
            "the environment variable %s is no setting of graphql_prod and is ignored%s",
            name,
            f"; did you mean {close[0]}?" if close else "",
            extra={"variable": name},
        )


def _remove(values: dict[str, Any], path: list[str]) -> None:
    below = values.get(path[0])
    if isinstance(below, dict) and len(path) > 1:
        _remove(below, path[1:])
    else:
        values.pop(path[0], None)


def _known(model: type[Policy], path: list[str]) -> bool:
    name, rest = path[0], path[1:]
    if name not in model.model_fields:
        return False
    group = _group_of(model, name)
    if group is None:
        return not rest or name in ("headers", "operations")
    return not rest or _known(group, rest)


def _known_variables(model: type[Policy] = ProductionConfig, prefix: str = PREFIX) -> Iterator[str]:
    for name in model.model_fields:
        yield prefix + name.upper()
        group = _group_of(model, name)
        if group is not None:
            yield from _known_variables(group, f"{prefix}{name.upper()}{DELIMITER}")


def _group_of(model: type[Policy], name: str) -> type[Policy] | None:
    default = model.model_fields[name].get_default(call_default_factory=True)
    return type(default) if isinstance(default, Policy) else None
