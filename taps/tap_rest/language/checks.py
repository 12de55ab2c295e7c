"""What can be wrong in a declaration beyond the types of its parts: names that lead nowhere, and secrets misplaced."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from tap_rest.auth.signing import SLOTS as SIGNED_SLOTS
from tap_rest.language.binding import ENGINE_SLOTS, JOB_SLOT, JOB_TEMPLATES, TEMPLATES, VERBATIM
from tap_rest.language.replication import SLOT, Format, slots
from tap_rest.language.yaml_source import KeyPath, Mistake, did_you_mean, mistakes


def template_mistakes(part: Any, data: dict[str, Any], path: KeyPath = ()) -> Iterator[Mistake]:
    """Substitutions that ask for what is not there, in all texts of a file that are substituted."""
    if isinstance(part, str):
        yield from _text_mistakes(part, data, path)
    elif isinstance(part, dict | list):
        for key, value in part.items() if isinstance(part, dict) else enumerate(part):
            inside = path[2:] if path[:1] == ("streams",) else path
            if inside or key not in VERBATIM:
                yield from template_mistakes(value, data, (*path, key))


def _text_mistakes(text: str, data: dict[str, Any], path: KeyPath) -> Iterator[Mistake]:
    declared = data.get("settings") if isinstance(data.get("settings"), dict) else {}
    known = {f"settings.{name}" for name in declared or {}} | ({"api_version"} if data.get("api_version") else set())
    part = path[2] if len(path) > 2 and path[0] == "streams" else path[0] if path else ""
    known |= set(ENGINE_SLOTS) if part in TEMPLATES else set()
    known |= set(SIGNED_SLOTS) if part == "auth" and path[-1] == "message" else set()
    known |= {"cursor"} if path[-1:] == ("next_path",) else set()
    known |= {JOB_SLOT} if part == "job" and path[-1] in JOB_TEMPLATES else set()
    streams = data.get("streams") if path[:1] == ("streams",) and part in (*TEMPLATES, "include", "job") else None
    above = _ancestors(streams, path[1]) if isinstance(streams, dict) else []
    parents = {str(each.get("as")): each for _, each in reversed(above)}
    for slot, how in slots(text):
        parent = parents.get(slot.partition(".")[0])
        if parent is not None and (parent.get("stream") is None or "." in slot):
            continue
        if slot not in known:
            yield Mistake(path, f"`{{{slot}}}` is not there to put in", did_you_mean(slot, known))
        elif part != "auth" and _is_sensitive(declared, slot):
            yield Mistake(path, f"`{{{slot}}}` is sensitive and may be used in `auth` only")
        if how:
            yield from (Mistake(path, f"format {found.problem}", found.hint) for found in mistakes(how, Format))
    if re.search(r"[{}]", SLOT.sub("", text)):
        yield Mistake(path, "a brace that belongs to no substitution", "write `{settings.name}`, without spaces")


def each_mistakes(data: dict[str, Any], streams: dict[str, Any]) -> Iterator[Mistake]:
    """Partitions that come from nowhere, or from themselves."""
    settings = data.get("settings") or {}
    for name in streams:
        where: KeyPath = ("streams", name, "for_each")
        if not (found := _ancestors(streams, name)):
            continue
        each, circular = found[0][1], len({of for of, _ in found}) < len(found)
        if str(each.get("as")) in ("settings", "bookmark", "until", "cursor", "api_version", "job"):
            yield Mistake((*where, "as"), f"`{each['as']}` already has a meaning in templates")
        if isinstance(setting := each.get("setting"), str) and setting not in settings:
            yield Mistake((*where, "setting"), f"there is no setting `{setting}`", did_you_mean(setting, settings))
        if circular:
            yield Mistake((*where, "stream"), f"`{name}` is among its own parents")
        elif isinstance(each.get("stream"), str):
            yield from _parent_mistakes(streams, each, where)


def _parent_mistakes(streams: dict[str, Any], each: dict[str, Any], where: KeyPath) -> Iterator[Mistake]:
    parent = each["stream"]
    above = _each(streams, parent)
    if parent not in streams:
        yield Mistake((*where, "stream"), f"there is no stream `{parent}`", did_you_mean(parent, streams))
    elif above and above.get("only") == "changed":
        yield Mistake((*where, "stream"), f"`{parent}` is read by change, so not all of its records are known")
    elif each.get("only") == "changed" and isinstance(streams[parent], dict):
        replication = streams[parent].get("replication")
        if not isinstance(replication, dict) or replication.get("format") == "text":
            yield Mistake(where, f"`only: changed` needs a `replication` of {parent} by time")


def _each(streams: dict[str, Any], name: Any) -> dict[str, Any] | None:
    stream = streams.get(name) if isinstance(name, str) else None
    each = stream.get("for_each") if isinstance(stream, dict) else None
    return each if isinstance(each, dict) else None


def _ancestors(streams: dict[str, Any], name: Any) -> list[tuple[Any, dict[str, Any]]]:
    """The stream and all above it with their `for_each`; in a circle the last is there twice."""
    found: list[tuple[Any, dict[str, Any]]] = []
    while (each := _each(streams, name)) is not None:
        seen = name in (known for known, _ in found)
        found.append((name, each))
        if seen:
            break
        name = each.get("stream")
    return found


def _is_sensitive(declared: Any, slot: str) -> bool:
    setting = declared.get(slot.removeprefix("settings.")) if isinstance(declared, dict) else None
    return isinstance(setting, dict) and setting.get("sensitive") is True
