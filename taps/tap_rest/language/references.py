"""Schemas that stand in a file of their own: `schema: openapi.yaml#/components/schemas/Issue`, read when a file is."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import unquote

from tap_rest.errors import DeclarationError
from tap_rest.language.yaml_source import read

MOST_PARTS = 50_000


def schema_at(reference: str, folder: Path) -> dict[str, Any]:
    """The JSON Schema at a reference, with all references in it replaced by what they lead to.

    The reference is a JSON or YAML file below the folder of the declaration, and after `#` the way to the schema in it.
    An object that holds itself is left open there, and so is everything behind MOST_PARTS. Raises DeclarationError:
    the file can't be read, or holds nothing there.
    """
    name, _, way = reference.partition("#")
    file = (folder / name).resolve()
    if not file.is_relative_to(folder.resolve()):
        raise DeclarationError("a schema's file stands in the folder of the declaration or below it", where=reference)
    document = read(file).data
    found = _resolved(_at(document, way, reference), document, reference, (), [MOST_PARTS])
    if not isinstance(found, dict):
        raise DeclarationError("there is no schema", where=reference)
    return found


def _at(document: Any, way: str, reference: str) -> Any:
    found = document
    for step in filter(None, way.split("/")):
        key = unquote(step).replace("~1", "/").replace("~0", "~")
        if not isinstance(found, dict) or key not in found:
            raise DeclarationError(f"there is no {key!r}", where=reference)
        found = found[key]
    return found


def _resolved(part: Any, document: Any, reference: str, way: tuple[str, ...], left: list[int]) -> Any:
    left[0] -= 1
    if isinstance(part, list):
        return [_resolved(one, document, reference, way, left) for one in part]
    if not isinstance(part, dict) or left[0] < 0:
        return {} if isinstance(part, dict) else part
    if isinstance(target := part.get("$ref"), str):
        if not target.startswith("#"):
            raise DeclarationError(f"{target!r} leads out of the file", where=reference)
        found = {} if target in way else _at(document, target[1:], reference)
        return _resolved(found, document, reference, (*way, target), left)
    kept = {name: _resolved(one, document, reference, way, left) for name, one in part.items() if name != "nullable"}
    if part.get("nullable") is True and isinstance(kind := kept.get("type"), str):
        kept["type"] = [kind, "null"]  # OpenAPI 3.0 has a word of its own for it
    return kept
