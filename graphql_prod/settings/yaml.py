"""Settings in YAML; the only module that needs PyYAML."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import yaml
from yaml.constructor import ConstructorError

if TYPE_CHECKING:
    from collections.abc import Iterator

_BOOL = "tag:yaml.org,2002:bool"
_MERGE = "tag:yaml.org,2002:merge"


class _Loader(yaml.SafeLoader):
    """Knows the words for truth of YAML 1.2, ``true`` and ``false``.

    ``mode: off`` is a text then, and ``trust_env: yes`` too, which means the same to that setting.
    """

    yaml_implicit_resolvers = {  # noqa: RUF012 -- as the class above has it
        first: [(tag, words) for tag, words in resolvers if tag != _BOOL]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (ValueError, LookupError, AttributeError, TypeError, ArithmeticError):
            # The text of such an error quotes the value.
            problem = "a value that does not fit its kind"
            raise ConstructorError(None, None, problem, node.start_mark) from None


_Loader.add_implicit_resolver(_BOOL, re.compile("^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF"))


def parse(text: str, twice: list[str]) -> Any:
    """What a text says; an empty one says nothing.

    :param twice: takes the dotted keys that one table gives twice.
    :raises ValueError: it is no YAML. The text names the place, and no value.
    """
    try:
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return {}
            twice += dict.fromkeys(_given_twice(node, "", set()))
            return loader.construct_document(node) or {}
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}, column {mark.column + 1}" if mark else "somewhere"
        # A name that it quotes may be a secret that begins with * or !.
        problem = re.sub("'[^']{2,}'", "'…'", getattr(error, "problem", None) or "not readable")
        raise ValueError(f"{problem} ({where})") from None


def _given_twice(node: yaml.Node, path: str, seen: set[int]) -> Iterator[str]:
    """Keys that one table gives twice; a node that aliases repeat is looked at once."""
    if id(node) in seen:
        return
    seen.add(id(node))
    if isinstance(node, yaml.SequenceNode):
        for each in node.value:
            yield from _given_twice(each, path, seen)
    elif isinstance(node, yaml.MappingNode):
        known: set[tuple[str, str]] = set()
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            name = f"{path}.{key.value}" if path else key.value
            if (key.tag, key.value) in known and key.tag != _MERGE:
                yield name
            known.add((key.tag, key.value))
            yield from _given_twice(value, name, seen)
