"""The JSON Schema of declarations, for editors and for the reference page: the types, and what their docstrings say."""

from __future__ import annotations

import inspect
import re
from typing import Any, get_args

import msgspec

from tap_rest.language.declaration import Declaration
from tap_rest.language.vocabulary import Defaults


def language_schema() -> dict[str, Any]:
    """The schema; the options of each part stand in the order of their docstrings, its own before those it inherits."""
    _, parts = msgspec.json.schema_components([Declaration], ref_template="#/$defs/{name}")
    for kind in structs(Declaration):
        part = parts[kind.__name__]
        part["description"] = " ".join((kind.__doc__ or "").partition("Attributes:")[0].split())
        said = {name: text for name, text in _said(kind).items() if name in part["properties"]}
        ordered = {name: part["properties"].pop(name) | {"description": text} for name, text in said.items()}
        part["properties"] |= ordered
    own = parts["Stream"]["properties"]  # a stream may change single options of what holds for all streams
    for name in (field.encode_name for field in msgspec.structs.fields(Defaults)):
        for kind in [own[name]] if "discriminator" in own[name] else list(own[name].get("anyOf", ())):
            part = parts.get(kind.get("$ref", "").rpartition("/")[2], {})
            if needed := ["type"] if "discriminator" in kind else part.get("required"):
                own[name]["anyOf"].append({"type": "object", "not": {"required": needed}})
    for name in ("Declaration", "Stream"):
        parts[name]["properties"]["records"]["anyOf"].append({"type": "string"})
    parts["Stream"]["required"] = ["path"]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "$ref": "#/$defs/Declaration", "$defs": parts}


def structs(kind: Any, seen: set[type[msgspec.Struct]] | None = None) -> set[type[msgspec.Struct]]:
    """Every struct type that a type leads to, itself included."""
    seen = set() if seen is None else seen
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct) and kind not in seen:
        seen.add(kind)
        for field in msgspec.structs.fields(kind):
            structs(field.type, seen)
    for inner in get_args(kind):
        structs(inner, seen)
    return seen


def _said(kind: type[msgspec.Struct]) -> dict[str, str]:
    """What the docstrings of a type and its bases say of each option, by its key; the nearest one counts."""
    keys = {field.name: field.encode_name for field in msgspec.structs.fields(kind)}
    found: dict[str, str] = {}
    for base in kind.__mro__:
        attributes = inspect.cleandoc(base.__doc__ or "").partition("Attributes:")[2]
        for name, text in re.findall(r"^ {4}(\w+): (.+(?:\n {8}.+)*)", attributes, re.MULTILINE):
            found.setdefault(keys.get(name, name), " ".join(text.split()))
    return found
