"""Reading a YAML file so that every mistake in it can be answered with its line, and all of them at once.

Scalars are those of YAML 1.2: `no`, dates and `12:30:45` stay text. A number stays text, too, where it would not be
written back as it stands (`1.10`, `1_000`, `007`). Duplicate keys and tags are mistakes, aliases are bounded.
"""

from __future__ import annotations

import difflib
import re
import types
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin

import msgspec
import yaml

from tap_rest.errors import DeclarationError

KeyPath = tuple[str | int, ...]

_LARGEST_FILE = 1_000_000
_MOST_NODES = 50_000
_DEEPEST = 60
_WORDS = {"true": True, "false": False, "null": None, "~": None, "": None}
_PLAIN_TAG = re.compile(r"tag:yaml\.org,2002:(str|int|float|bool|null|timestamp|merge|value|map|seq)")


class Mistake(msgspec.Struct, frozen=True):
    """One thing wrong in a file, before it has a line.

    Attributes:
        path: The keys that lead to it; for a missing key, those of where it should be.
    """

    path: KeyPath
    problem: str
    hint: str = ""


class Source(msgspec.Struct, frozen=True):
    """A file's data and where it stands.

    Attributes:
        name: The file, as messages name it.
        data: Made of dict (names as text), list, str, int, float, bool and None.
        lines: The line, from 1, of each key and list item.
    """

    name: str
    data: Any
    lines: Mapping[KeyPath, int]

    def error(self, mistakes: Iterable[Mistake]) -> DeclarationError:
        """All mistakes, each once, in the order of their lines."""
        unique = {(self._line(mistake.path), mistake.problem): mistake for mistake in mistakes}
        errors = [
            DeclarationError(
                f"{mistake.problem} at {dotted(mistake.path)}" if mistake.path else mistake.problem,
                where=f"{self.name}:{line}",
                hint=mistake.hint,
            )
            for (line, _), mistake in sorted(unique.items(), key=lambda item: item[0])
        ]
        first = errors[0]
        return DeclarationError(first.problem, where=first.where, hint=first.hint, mistakes=errors)

    def _line(self, path: KeyPath) -> int:
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)


def dotted(path: KeyPath) -> str:
    return "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in path).lstrip(".")


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A hint with the nearest known word, else the words there are."""
    names = sorted(known)
    near = difflib.get_close_matches(word, names, n=1, cutoff=0.6)
    return f"did you mean `{near[0]}`?" if near else f"known are {', '.join(names)}" if names else ""


def read(path: Path) -> Source:
    """Parses a file. Raises DeclarationError: it can't be read, or is not YAML as described above, all told at once."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise DeclarationError(f"the declaration can't be read: {reason}", where=str(path)) from None
    if len(text) > _LARGEST_FILE:
        raise DeclarationError("the declaration is larger than a megabyte", where=str(path))
    try:
        node = yaml.compose(text, Loader=_Parser)
    except (yaml.YAMLError, RecursionError) as error:
        mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        raise DeclarationError(f"not YAML: {problem or str(error).splitlines()[0]}", where=where) from None
    tree = _Tree()
    source = Source(str(path), tree.value(node, ()), tree.lines)
    if tree.mistakes:
        raise source.error(tree.mistakes)
    return source


_Parser: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Tree:
    def __init__(self) -> None:
        self.lines: dict[KeyPath, int] = {}
        self.mistakes: list[Mistake] = []
        self._nodes = 0

    def value(self, node: Any, path: KeyPath) -> Any:
        self._nodes += 1
        if self._nodes > _MOST_NODES or len(path) > _DEEPEST:
            self.mistakes = [Mistake(path[:1], "aliases or nesting make the file too large to be a declaration")]
            return None
        if node is None:
            return None
        if not _PLAIN_TAG.fullmatch(node.tag):
            self.mistakes.append(Mistake(path, f"the tag {node.tag!r} is not allowed"))
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            items = []
            for index, item in enumerate(node.value):
                self.lines[(*path, index)] = item.start_mark.line + 1
                items.append(self.value(item, (*path, index)))
            return items
        return node.value if node.style or node.tag.endswith(":str") else _plain(node.value)

    def _mapping(self, node: yaml.MappingNode, path: KeyPath) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, item in node.value:
            if not isinstance(name, yaml.ScalarNode):
                self.mistakes.append(Mistake(path, "a key must be a plain word"))
                continue
            key = str(name.value)
            here = (*path, key, "again") if key in found else (*path, key)
            self.lines[here] = name.start_mark.line + 1
            if key in found:
                hint = f"the first is in line {self.lines[(*path, key)]}"
                self.mistakes.append(Mistake(here, f"`{key}` is there twice", hint))
            else:
                found[key] = self.value(item, here)
        return found


def _plain(text: str) -> Any:
    if text.lower() in _WORDS and text in (text.lower(), text.capitalize(), text.upper()):
        return _WORDS[text.lower()]
    for kind, shape in ((int, r"-?\d{1,18}"), (float, r"-?\d{1,15}\.\d{1,15}")):
        if re.fullmatch(shape, text, re.ASCII) and str(kind(text)) == text:
            return kind(text)
    return text


def mistakes(value: Any, kind: Any, path: KeyPath = ()) -> list[Mistake]:
    """Everything that keeps a value from being of a type: msgspec's checks, but not only the first that fails."""
    options = _options(kind)
    inner = {get_origin(option): get_args(option) for option in options}
    structs = [option for option in options if isinstance(option, type) and issubclass(option, msgspec.Struct)]
    found: list[Mistake] = []
    if isinstance(value, dict) and structs:
        found = _struct_mistakes(value, structs, path)
    elif isinstance(value, dict) and dict in inner:
        for key, item in value.items():
            found += mistakes(key, inner[dict][0], (*path, key)) + mistakes(item, inner[dict][1], (*path, key))
    elif isinstance(value, list) and list in inner:
        for index, item in enumerate(value):
            found += mistakes(item, inner[list][0], (*path, index))
    return found or _conversion_mistakes(value, kind, path)  # what is left are the checks between fields


def _struct_mistakes(value: dict[str, Any], structs: list[type[msgspec.Struct]], path: KeyPath) -> list[Mistake]:
    """What is wrong with single keys."""
    kinds = {str(struct.__struct_config__.tag): struct for struct in structs if struct.__struct_config__.tag}
    given = str(value.get("type", ""))
    if kinds and given not in kinds:
        if "type" not in value:
            return [Mistake(path, "`type` is missing", did_you_mean("", kinds))]
        return [Mistake((*path, "type"), f"`{given}` is not a known type", did_you_mean(given, kinds))]
    fields = _fields(kinds.get(given, structs[0]))
    missing = [name for name, field in fields.items() if field.required and name not in value]
    found = [Mistake(path, f"`{name}` is missing") for name in missing]
    for key, item in value.items():
        if key in fields:
            found += mistakes(item, fields[key].type, (*path, key))
        elif key != "type" or not kinds:
            found.append(Mistake((*path, key), f"unknown key `{key}`", did_you_mean(key, fields)))
    return found


@cache
def _fields(struct: type[msgspec.Struct]) -> dict[str, Any]:
    return {field.encode_name: field for field in msgspec.structs.fields(struct)}


def _conversion_mistakes(value: Any, kind: Any, path: KeyPath) -> list[Mistake]:
    """What msgspec says of a value, with the words or examples that its type knows."""
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        problem = re.sub(r" - at `.*`$", "", str(error)).replace("`", "")
        shown = f"`{value}` " if isinstance(value, str | int | float) else ""
        shape = msgspec.json.schema(kind)
        shapes = shape.get("anyOf", [shape])
        if words := [str(word) for shape in shapes for word in shape.get("enum", ())]:
            return [Mistake(path, f"{shown}is not a known value", did_you_mean(str(value), words))]
        if "matching regex" in problem:
            examples = ", ".join(str(example) for shape in shapes for example in shape.get("examples", ()))
            return [Mistake(path, f"{shown}is not written as it must be", examples and f"for example {examples}")]
        return [Mistake(path, f"{shown}does not fit: {problem[:1].lower()}{problem[1:]}")]
    return []


def _options(kind: Any) -> list[Any]:
    """The members of a union, without their annotations; one member for any other type."""
    if get_origin(kind) is Annotated:
        return _options(get_args(kind)[0])
    if get_origin(kind) in (Union, types.UnionType):
        return [option for arg in get_args(kind) for option in _options(arg)]
    return [kind]
