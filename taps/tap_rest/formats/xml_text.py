"""XML read as JSON text, by expat with everything refused that makes XML dangerous: a DTD, and with it all entities."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, NoReturn
from xml.parsers import expat

import msgspec

from tap_rest.errors import UnexpectedPage
from tap_rest.formats.json_text import BOM

DEEPEST = 500
_DECLARED = re.compile(rb"""\s*<\?xml[^>]*?\sencoding\s*=\s*["']([A-Za-z0-9._-]+)["']""")


@dataclass
class _Element:
    path: tuple[str, ...]
    attributes: dict[str, str]
    start: int
    children: dict[str, list[Any]] = field(default_factory=dict)
    text: list[str] = field(default_factory=list)


class _Reader:
    """Builds one value for each element, the innermost first; expat calls it."""

    def __init__(self, text: bytes, lists: frozenset[tuple[str, ...]]) -> None:
        self._text, self._lists = text, lists
        self._parents = {path[:-1] for path in lists}
        self._open = [_Element((), {}, 0)]
        self._parser = expat.ParserCreate("utf-8")
        self._parser.buffer_text = True
        self._parser.SetParamEntityParsing(expat.XML_PARAM_ENTITY_PARSING_NEVER)
        self._parser.StartDoctypeDeclHandler = self._refuse
        self._parser.EntityDeclHandler = self._refuse
        self._parser.StartElementHandler = self._begin
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self._characters

    def read(self) -> dict[str, Any]:
        self._parser.Parse(self._text, True)
        return self._members(self._open[0])

    def _refuse(self, name: str, *_: Any) -> NoReturn:
        raise UnexpectedPage(f"the XML declares a DTD or an entity ({name}), which is not taken")

    def _begin(self, name: str, attributes: dict[str, str]) -> None:
        if len(self._open) > DEEPEST:
            raise UnexpectedPage(f"the XML is nested deeper than {DEEPEST} elements")
        self._open.append(_Element((*self._open[-1].path, name), attributes, self._parser.CurrentByteIndex))

    def _characters(self, text: str) -> None:
        self._open[-1].text.append(text)

    def _end(self, name: str) -> None:
        element = self._open.pop()
        self._open[-1].children.setdefault(name, []).append(self._value(element))

    def _value(self, element: _Element) -> Any:
        text = "".join(element.text)
        attributes = {f"@{name}": value for name, value in element.attributes.items()}
        if element.children and text.strip():
            end = self._text.index(b">", self._parser.CurrentByteIndex) + 1
            return {**attributes, "#xml": self._text[element.start : end].decode()}
        if element.children or (element.path in self._parents and not text.strip()):
            return {**attributes, **self._members(element)}
        if attributes:
            return {**attributes, "#text": text} if text else attributes
        return text

    def _members(self, element: _Element) -> dict[str, Any]:
        found: dict[str, Any] = {
            name: values if len(values) > 1 or (*element.path, name) in self._lists else values[0]
            for name, values in element.children.items()
        }
        return found | {path[-1]: [] for path in self._lists if path[:-1] == element.path and path[-1] not in found}


def as_json(body: bytes, lists: frozenset[tuple[str, ...]]) -> bytes:
    """An XML document, in the encoding that it declares, as JSON text; `XmlFormat` says how.

    `lists` are the paths of the elements that are always a list. Raises UnexpectedPage where it is not whole and
    well-formed, not in its encoding, declares a DTD or is nested too deep.
    """
    found = _DECLARED.match(body)
    encoding = "utf-16" if body[:2] in (b"\xff\xfe", b"\xfe\xff") else found[1].decode() if found else "utf-8"
    try:
        text = body.decode(encoding).encode().removeprefix(BOM)
    except (LookupError, UnicodeError):
        raise UnexpectedPage(f"the body is not text in the encoding {encoding}") from None
    try:
        return msgspec.json.encode(_Reader(text, lists).read())
    except expat.ExpatError as error:
        raise UnexpectedPage(f"the body is not whole XML: {error}") from None
