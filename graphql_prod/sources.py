"""Where settings come from: code over environment over file over defaults, each value with its source."""

from __future__ import annotations

import difflib
import json
import logging
import os
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import NoneType
from typing import Any, get_args

from graphql_prod.config import OperationPolicy, ProductionConfig
from graphql_prod.errors import ConfigurationError, Problem
from graphql_prod.policy import Policy, a_setting_called_schema
from graphql_prod.timeouts import PRESETS

PREFIX = "GRAPHQL_PROD_"
DELIMITER = "__"

logger = logging.getLogger("graphql_prod")

Key = tuple[str, ...]
Origin = Callable[[Key], str]
# What a file or an environment calls None, which neither can hold.
_NOTHING = ("none", "null")
# Below this key a value is text, whatever it says, and names compare without case.
_HEADERS = ("headers",)


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
    environment, variable = _environment(tree.problems)
    if isinstance(source, ProductionConfig) and not environment and not tree.problems:
        if missing := _missing(required, _named(source)):
            raise ConfigurationError(missing)
        return Loaded(source, _leaves(source))
    _respell_operations(environment, tree.values)
    tree.lay(environment, variable)
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
    tables: dict[Key, str] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def lay(self, values: Mapping[str, Any], origin: Origin) -> None:
        """Put values over those that are there."""
        self._lay(self.values, values, origin, ())

    def _lay(self, under: dict[str, Any], over: Mapping[str, Any], origin: Origin, path: Key) -> None:
        for given, value in over.items():
            key = _spelt(under, str(given)) if path == _HEADERS else str(given)
            here = (*path, key)
            if _is_timeout(here) and isinstance(value, str) and value.lower() in PRESETS:
                value = PRESETS[value.lower()]
            if isinstance(value, Policy):
                value = _named(value)
            if isinstance(value, Mapping):
                below = under.get(key)
                if _is_timeout(here) and isinstance(below, str):
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

    def checked(self, required: str | None) -> Loaded:
        """The settings that these values make.

        :raises ConfigurationError: they make none.
        """
        loaded = Loaded(origins=self.origins, tables=self.tables)
        try:
            loaded.config = ProductionConfig(**self.values)
        except ConfigurationError as error:
            self.problems += [Problem(p.key, p.message, _sources(loaded, p.key)) for p in error.problems]
        if problems := [*_missing(required, self.values), *self.problems]:
            raise ConfigurationError(problems)
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
    keys = [(*prefix, name.strip()) for name in names.split(",")]
    return " and ".join(dict.fromkeys(loaded.tables.get(key) or loaded.origin(key) for key in keys))


def _is_timeout(key: Key) -> bool:
    """True for what may name a preset: the client's timeout, or an operation's."""
    return key == ("timeout",) or (len(key) == 3 and (key[0], key[2]) == ("operations", "timeout"))


def _spelt(under: Mapping[str, Any], name: str) -> str:
    """A name as it is known already, compared without case."""
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
        values = parse(path.read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError:
        raise _unusable(path, "it is not UTF-8") from None
    except OSError as error:
        raise _unusable(path, f"it cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
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
        # A name that it quotes may be a secret that begins with * or !.
        problem = re.sub("'[^']{2,}'", "'…'", getattr(error, "problem", None) or "not readable")
        raise ValueError(f"{problem} ({where})") from None


def _without_nothing(values: dict[str, Any], model: type[Policy] | None = ProductionConfig) -> dict[str, Any]:
    """The values, with the word for None made None where a setting may be None."""
    return {key: _meant(key, value, model) for key, value in values.items()}


def _meant(key: str, value: Any, model: type[Policy] | None) -> Any:
    known = model is not None and key in model.model_fields
    if isinstance(value, dict):
        if model is ProductionConfig and key == "operations":
            return {
                name: _without_nothing(below, OperationPolicy) if isinstance(below, dict) else below
                for name, below in value.items()
            }
        return _without_nothing(value, _group_of(model, key) if model is not None and known else None)
    if isinstance(value, str) and value.lower() in _NOTHING and model is not None and known:
        return None if NoneType in get_args(model.model_fields[key].annotation) else value
    return value


def _environment(problems: list[Problem]) -> tuple[dict[str, Any], Origin]:
    """What the environment names, by pydantic-settings; unknown names are only warned of."""
    ours = [name for name in os.environ if name.upper().startswith(PREFIX)]
    if not ours:
        return {}, lambda _: "the environment"
    problems += _contradictions(ours)
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
    with a_setting_called_schema():
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
        name = _variable_of(key[:end])
        if name in spellings:
            return spellings[name]
    below = (known for name, known in spellings.items() if name.startswith(_variable_of(key) + DELIMITER))
    return next(below, "the environment")


def _variable_of(key: Key) -> str:
    return PREFIX + DELIMITER.join(part.upper().replace("-", "_") for part in key)


def _contradictions(ours: list[str]) -> Iterator[Problem]:
    """Groups that are named as a whole and in parts; only tables in JSON can have both."""
    for whole in sorted(ours):
        key = _path(whole)
        below = whole.upper() + DELIMITER
        parts = [
            n for n in sorted(ours) if n.upper().startswith(below) and _known(ProductionConfig, _path(n))
        ]
        if parts and (_is_timeout(tuple(key)) or not os.environ[whole].lstrip().startswith("{")):
            what = "a preset and single limits" if key[-1] == "timeout" else "a whole and its parts"
            message = f"{what} contradict each other; unset the one or the others"
            yield Problem(".".join(key), message, f"{whole} and {', '.join(parts)}")


def _path(variable: str) -> list[str]:
    return variable.upper().removeprefix(PREFIX).lower().split(DELIMITER)


def _respell_operations(values: dict[str, Any], known: dict[str, Any]) -> None:
    """Give operations their case back: as the file has it, else as in the variable's name."""
    operations, others = values.get("operations"), known.get("operations")
    if not isinstance(operations, dict):
        return
    whole = f"{PREFIX}OPERATIONS{DELIMITER}"
    written = {n[len(whole) :].split(DELIMITER)[0]: n for n in os.environ if n.upper().startswith(whole)}
    names = {**written, **(others if isinstance(others, dict) else {})}
    values["operations"] = {
        _spelt(dict(reversed(names.items())), name): below for name, below in operations.items()
    }


def _set_aside_unknown(ours: list[str], values: dict[str, Any]) -> None:
    """Warn of variables that are no settings; Kubernetes injects some for a service of our name."""
    for name in ours:
        path = _path(name)
        if _known(ProductionConfig, path):
            continue
        _remove(values, path)
        close = difflib.get_close_matches(DELIMITER.join(path).upper(), _known_names(), n=1, cutoff=0.8)
        logger.warning(
            "the environment variable %s is no setting of graphql_prod and is ignored%s",
            name,
            f"; did you mean {PREFIX}{close[0]}?" if close else "",
            extra={"variable": name},
        )


def _remove(values: dict[str, Any], path: list[str]) -> None:
    below = values.get(path[0])
    if isinstance(below, dict) and len(path) > 1:
        _remove(below, path[1:])
        if not below:
            values.pop(path[0])
    else:
        values.pop(path[0], None)


def _known(model: type[Policy], path: list[str]) -> bool:
    name, rest = path[0], path[1:]
    if name not in model.model_fields:
        return False
    if name == "operations" and len(rest) > 1:
        return _known(OperationPolicy, rest[1:])
    group = _group_of(model, name)
    if group is None:
        return not rest or name in ("headers", "operations")
    return not rest or _known(group, rest)


def _known_names(model: type[Policy] = ProductionConfig, prefix: str = "") -> Iterator[str]:
    for name in model.model_fields:
        yield prefix + name.upper()
        group = _group_of(model, name)
        if group is not None:
            yield from _known_names(group, f"{prefix}{name.upper()}{DELIMITER}")


def _group_of(model: type[Policy], name: str) -> type[Policy] | None:
    kind = ProductionConfig if model is OperationPolicy else model
    default = kind.model_fields[name].get_default(call_default_factory=True)
    return type(default) if isinstance(default, Policy) else None
