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
            yield from template_mistakes(value, data, (*path, key))


def _text_mistakes(text: str, data: dict[str, Any], path: KeyPath) -> Iterator[Mistake]:
    in_stream = path[0] == "streams" and len(path) > 2
    part = path[2] if in_stream else path[0]
    if part in VERBATIM:
        return
    settings = {f"settings.{name}": setting for name, setting in _inner(data, "settings").items()}
    known = {*settings, "api_version"} if data.get("api_version") else {*settings}
    known |= set(ENGINE_SLOTS) if part in TEMPLATES else set()
    known |= set(SIGNED_SLOTS) if part == "auth" and path[-1] == "message" else set()
    known |= {"cursor"} if path[-1] == "next_path" else set()
    known |= {JOB_SLOT} if part == "job" and path[-1] in JOB_TEMPLATES else set()
    partitioned = in_stream and part in (*TEMPLATES, "include", "job")
    above = _ancestors(_inner(data, "streams"), path[1]) if partitioned else {}
    parents = {str(each.get("as")): each for each in reversed(above.values())}
    for slot, how in slots(text):
        parent = parents.get(slot.partition(".")[0])
        if parent is not None and (parent.get("stream") is None or "." in slot):
            continue
        if slot not in known:
            yield Mistake(path, f"`{{{slot}}}` is not there to put in", did_you_mean(slot, known))
        elif part != "auth" and _inner(settings, slot).get("sensitive") is True:
            yield Mistake(path, f"`{{{slot}}}` is sensitive and may be used in `auth` only")
        if how:
            yield from (Mistake(path, f"format {found.problem}", found.hint) for found in mistakes(how, Format))
    if re.search(r"[{}]", SLOT.sub("", text)):
        yield Mistake(path, "a brace that belongs to no substitution", "write `{settings.name}`, without spaces")


def each_mistakes(data: dict[str, Any], streams: dict[str, Any]) -> Iterator[Mistake]:
    """Partitions that come from nowhere, or from themselves."""
    settings = _inner(data, "settings")
    for name in streams:
        each, where = _inner(streams, name, "for_each"), ("streams", name, "for_each")
        parent, setting = each.get("stream"), each.get("setting")
        if each.get("as") in ("settings", "bookmark", "until", "cursor", "api_version", "job"):
            yield Mistake((*where, "as"), f"`{each['as']}` already has a meaning in templates")
        if isinstance(setting, str) and setting not in settings:
            yield Mistake((*where, "setting"), f"there is no setting `{setting}`", did_you_mean(setting, settings))
        if any(one.get("stream") == name for one in _ancestors(streams, name).values()):
            yield Mistake((*where, "stream"), f"`{name}` is among its own parents")
        elif isinstance(parent, str) and parent not in streams:
            yield Mistake((*where, "stream"), f"there is no stream `{parent}`", did_you_mean(parent, streams))
        elif isinstance(parent, str) and _inner(streams, parent, "for_each").get("only") == "changed":
            yield Mistake((*where, "stream"), f"`{parent}` is read by change, so not all of its records are known")
        elif isinstance(parent, str) and each.get("only") == "changed":
            replication = _inner(streams, parent, "replication")
            if not replication or replication.get("format") == "text":
                yield Mistake(where, f"`only: changed` needs a `replication` of {parent} by time")


def _ancestors(streams: dict[str, Any], name: Any) -> dict[str, dict[str, Any]]:
    """The `for_each` of a stream and of all above it, by their names."""
    found: dict[str, dict[str, Any]] = {}
    while name not in found and (each := _inner(streams, name, "for_each")):
        found[name] = each
        name = str(each.get("stream") or "")
    return found


def _inner(part: Any, *keys: Any) -> dict[str, Any]:
    """The mapping at some keys; an empty one where there is none, since what is wrong there is said elsewhere."""
    for key in keys:
        part = part.get(key) if isinstance(part, dict) else None
    return part if isinstance(part, dict) else {}
