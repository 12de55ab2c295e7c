"""The reference page of the language, from its JSON Schema and the examples: `python -m tests.reference` writes it."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import yaml
from tests.tap_rest.examples import EXAMPLES

from tap_rest.engine.running import RUN_SETTINGS
from tap_rest.language.binding import ENGINE_SLOTS
from tap_rest.language.schema import language_schema
from tap_rest.language.vocabulary import COMMON_SETTINGS, Defaults

PAGE = Path(__file__).parent.parent / "docs" / "declarations.md"
FIRST = ["settings", "auth", "check", "limits", "errors", "paginator", "format", "records", "streams"]
"""The parts that one writes first; all others follow in the order of the types."""

SHARED = [field.encode_name for field in msgspec.structs.fields(Defaults)]

HEAD = """\
# Declarations

Everything that a declaration can say. This page is made from the types: `uv run python -m tests.reference` writes it,
and a test holds that it is current. Its examples are loaded by the tests, each as part of a small declaration.

```yaml
# yaml-language-server: $schema=declaration.schema.json
name: tap-example
settings:
  token: {sensitive: true, required: true, description: Personal access token}
base_url: https://api.example.com/v1
auth: {type: bearer, token: "{settings.token}"}
limits: [{quota: 100/min}]
paginator: {type: cursor, path: next, param: cursor}
streams:
  items:
    path: /items
    records: data
    primary_keys: [id]
    replication: {key: updated_at, order: ascending, param: since}
    day: {field: created_at}
```

The first line makes editors complete the rest; `tap-rest --schema > declaration.schema.json` writes the file it names.

Values are put into texts in braces: `{settings.name}` and `{api_version}` once, %(slots)s for each unit of work, and
what `for_each` names for each partition. After a `|` stands the format of a time, `{bookmark|epoch_s}`. There are no
expressions.

`tap-rest --config config.json --explain items` prints a stream as it stands after merging, and its first request.
"""


class Part(NamedTuple):
    """What one heading is about: its path, and the component there (under an empty name) or the kinds of a union."""

    key: str
    kinds: dict[str, str]

    def named(self) -> Iterator[tuple[str, str]]:
        """The keys of the examples that it takes, with the names of their types."""
        return ((f"{self.key}.{kind}".rstrip("."), name) for kind, name in self.kinds.items())


class Reference:
    """The page of a schema."""

    def __init__(self, schema: dict[str, Any]) -> None:
        self._defs: dict[str, Any] = schema["$defs"]
        self.parts = list(self._below("Declaration", "", set()))
        self._places = {name: part.key for part in self.parts for name in part.kinds.values()}

    def text(self) -> str:
        settings = {**{name: one.json_schema() for name, one in COMMON_SETTINGS.items()}, **RUN_SETTINGS}
        lines = [
            HEAD % {"slots": ", ".join(f"`{{{slot}}}`" for slot in ENGINE_SLOTS)},
            "## The file\n",
            *self._table("Declaration", (name for name in self._options("Declaration") if name not in SHARED)),
            "\nThe rest may stand at the top, for all streams, or in a stream, for itself; they are merged by key.\n",
            *self._table("Declaration", SHARED),
            *(line for part in self.parts for line in self._section(part)),
            "\n## Settings that every tap has\n",
            *table(
                "setting", ([name, shown(one.get("default")), one["description"]] for name, one in settings.items())
            ),
        ]
        return "\n".join(lines) + "\n"

    def _below(self, name: str, path: str, seen: set[str]) -> Iterator[Part]:
        """Every part once, at the first place where it may stand, each followed by those that stand inside it."""
        options = [option for option in self._options(name) if name != "Stream" or option not in SHARED]
        if not path:
            options.sort(key=lambda option: FIRST.index(option) if option in FIRST else len(FIRST))
        for option in options:
            for kinds in components_in(self._options(name)[option]):
                if not seen.issuperset(kinds.values()):
                    seen.update(kinds.values())
                    part = Part(f"{path}.{option}".lstrip("."), kinds)
                    yield part
                    for key, inner in part.named():
                        yield from self._below(inner, key, seen)

    def _options(self, name: str) -> dict[str, Any]:
        return {key: shape for key, shape in self._defs[name]["properties"].items() if "description" in shape}

    def _section(self, part: Part) -> Iterator[str]:
        yield f"\n## `{part.key}`\n"
        common: list[str] = SHARED if part.key == "streams" else []
        if "" not in part.kinds:
            yield "| `type` | |\n|---|---|"
            for kind, name in part.kinds.items():
                first, _, _ = self._defs[name]["description"].partition(". ")
                yield f"| [`{kind}`](#{slug(part.key, kind)}) | {first.rstrip('.')} |"
            first, *others = (self._options(name) for name in part.kinds.values())
            if common := [key for key in first if all(other.get(key) == first[key] for other in others)]:
                yield "\nEach of them takes:\n"
                yield from self._table(next(iter(part.kinds.values())), common)
        for kind, (key, name) in zip(part.kinds, part.named(), strict=True):
            if kind:
                yield f"\n### `{part.key}: {kind}`\n"
            yield f"{self._defs[name]['description']}\n\n```yaml\n{textwrap.dedent(EXAMPLES.get(key, '')).strip()}\n```"
            if own := [option for option in self._options(name) if option not in common]:
                yield ""
                yield from self._table(name, own)

    def _table(self, name: str, options: Iterable[str]) -> Iterator[str]:
        required, shapes = self._defs[name].get("required", ()), self._options(name)
        rows = []
        for option in options:
            default = "**required**" if option in required else shown(shapes[option].get("default"))
            rows.append([option, default, self._value(shapes[option]), shapes[option]["description"]])
        return table("option", rows)

    def _value(self, shape: dict[str, Any]) -> str:
        """What an option takes, in words."""
        if kinds := component_of(shape):
            key = self._places[next(iter(kinds.values()))]
            return f"[{key}](#{slug(key)})"
        if "enum" in shape:
            return ", ".join(f"`{word}`" for word in shape["enum"])
        if "anyOf" in shape:
            words = [self._value(one) for one in shape["anyOf"] if one.get("type") != "null" and "not" not in one]
            return " or ".join([", ".join(words[:-1]), words[-1]] if words[1:] else words)
        kind = shape.get("type", "anything")
        if kind == "array":
            return "list" if "anyOf" in shape["items"] else f"list of {self._value(shape['items'])}"
        if kind == "object" and isinstance(inner := shape.get("additionalProperties"), dict):
            return f"{self._value(inner)} by name"
        examples = f", like {', '.join(f'`{one}`' for one in shape['examples'])}" if "examples" in shape else ""
        bounds = [f" {sign} {shape[key]:,}" for key, sign in (("minimum", "≥"), ("maximum", "≤")) if key in shape]
        return "".join([{"string": "text"}.get(kind, kind), examples, *bounds])


def components_in(shape: Any) -> Iterator[dict[str, str]]:
    """The components that an option may hold, somewhere in it."""
    if isinstance(shape, list):
        for inner in shape:
            yield from components_in(inner)
    elif isinstance(shape, dict) and (kinds := component_of(shape)):
        yield kinds
    elif isinstance(shape, dict):
        for key in ("anyOf", "items", "additionalProperties"):
            yield from components_in(shape.get(key))


def component_of(shape: dict[str, Any]) -> dict[str, str]:
    """What an option itself must be, where that is a component: by kind, or one alone under an empty name."""
    if "discriminator" in shape:
        return {kind: ref.rpartition("/")[2] for kind, ref in shape["discriminator"]["mapping"].items()}
    return {"": shape["$ref"].rpartition("/")[2]} if "$ref" in shape else {}


def table(head: str, rows: Iterable[list[str]]) -> Iterator[str]:
    names = [head, "default", "value", "meaning"]
    for number, (name, *rest) in enumerate(rows):
        if number == 0:
            heads = [*names[: len(rest)], names[-1]]
            yield f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}"
        yield "| " + " | ".join([f"`{name}`", *(text.replace("|", r"\|") for text in rest)]).replace("  ", " ") + " |"


def slug(key: str, kind: str = "") -> str:
    return "".join(char for char in f"{key}-{kind}".strip("-") if char.isalnum() or char in "_-")


def shown(default: Any) -> str:
    if default in (None, "", [], {}):
        return ""
    text = yaml.safe_dump(default, default_flow_style=True, allow_unicode=True, width=1000)
    return f"`{text.removesuffix('...' + chr(10)).strip()}`"


if __name__ == "__main__":
    PAGE.write_text(Reference(language_schema()).text(), encoding="utf-8")
