"""The settings of `target-archive`: one class is their names, kinds, defaults, descriptions and checks."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec
from msgspec import Meta

from target_archive.commit import Mode, Severity
from target_archive.errors import BadSettings

Policy = Literal["note", "warn", "fail"]
BadRecordPolicy = Literal["keep", "dead_letter", "fail"]
Positive = Annotated[int, Meta(gt=0)]


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Each field is a setting; see its description."""

    root: Annotated[
        str,
        Meta(
            description="Folder of the archive, or s3://, gs:// or az:// with credentials in the environment; each"
            " source gets a folder in it",
            min_length=1,
        ),
    ] = "archive"
    source: Annotated[
        str, Meta(description="Name of the source in the archive; by default the extractor's name under Meltano")
    ] = ""
    compression: Annotated[Literal["gzip", "none"], Meta(description="How day files are compressed")] = "gzip"
    commit_max_seconds: Annotated[
        float, Meta(gt=0, description="What was downloaded is durable after at most this many seconds")
    ] = 30
    commit_max_bytes: Annotated[Positive, Meta(description="Commit when this many bytes of records are waiting")] = (
        64 << 20
    )
    commit_max_records: Annotated[Positive, Meta(description="Commit when this many records are waiting")] = 100_000
    day_field: Annotated[
        str | dict[str, str],
        Meta(description="Field whose day files a record, for all streams, or an object {stream pattern: field}"),
    ] = ""
    timezone: Annotated[str, Meta(description="Time zone (IANA name) in which days are counted")] = ""

    mode: Annotated[
        dict[str, Mode] | Mode | None,
        Meta(
            description="How streams behave, `event`, `entity`, `changelog`, `metric` or `snapshot`: one mode, or"
            " {stream pattern: mode}; by default what the tap declares, or what its keys suggest"
        ),
    ] = None
    on_drift: Annotated[
        dict[Severity, Policy] | Policy,
        Meta(
            description="What follows a change in the shape of data, one policy or {info, warn, breaking: policy}:"
            " `note` keeps it in the archive, `warn` tells it too, `fail` ends with status 4 until it is acknowledged"
        ),
    ] = {}
    single_writer: Annotated[
        Literal["proved", "assumed"],
        Meta(
            description="`assumed` allows an object store that cannot refuse a name that is taken: then nothing but"
            " yourself keeps two runs from writing at once"
        ),
    ] = "proved"
    on_bad_record: Annotated[
        dict[str, BadRecordPolicy] | BadRecordPolicy,
        Meta(
            description="What becomes of a record that is no object, or whose day or key is missing, one policy or"
            " {stream pattern: policy}: `keep` archives it, `dead_letter` sets it aside, `fail` ends the run before it"
        ),
    ] = "keep"

    def policy_of(self, severity: Severity) -> Policy:
        if isinstance(self.on_drift, str):
            return self.on_drift
        return self.on_drift.get(severity, "note" if severity == "info" else "warn")

    def mode_of(self, stream: str) -> Mode | None:
        if not isinstance(self.mode, dict):
            return self.mode
        return next((mode for pattern, mode in self.mode.items() if fnmatchcase(stream, pattern)), None)

    def bad_record_policy_of(self, stream: str) -> BadRecordPolicy:
        if isinstance(self.on_bad_record, str):
            return self.on_bad_record
        return next((policy for pattern, policy in self.on_bad_record.items() if fnmatchcase(stream, pattern)), "keep")

    def day_field_of(self, stream: str) -> str:
        if isinstance(self.day_field, str):
            return self.day_field
        return next((field for pattern, field in self.day_field.items() if fnmatchcase(stream, pattern)), "")


def parse(config: Mapping[str, Any]) -> Settings:
    """Settings from a configuration; texts are taken for numbers where numbers are due. Raises BadSettings."""
    for name in config:
        if name not in Settings.__struct_fields__:
            near = difflib.get_close_matches(name, Settings.__struct_fields__, 1)
            raise BadSettings(
                f"unknown setting `{name}`",
                hint=f"did you mean `{near[0]}`?" if near else f"known are {', '.join(Settings.__struct_fields__)}",
            )
    given = {name: value for name, value in config.items() if value is not None}
    try:
        name = ""
        for name in ("day_field", "mode", "on_drift", "on_bad_record"):
            text = given.get(name)
            if isinstance(text, str) and text.startswith("{"):  # Meltano and the environment know texts alone
                given[name] = msgspec.json.decode(text)
        settings = msgspec.convert(given, Settings, strict=False)
    except msgspec.DecodeError as error:
        message, _, place = str(error).partition(" - at ")
        found = re.search(r"\$\.([^`]+)", place)
        raise BadSettings(f"setting `{found[1] if found else name}`: {message}") from None
    if settings.timezone:
        zone(settings.timezone)
    return msgspec.structs.replace(
        settings, source=settings.source or os.environ.get("MELTANO_EXTRACTOR_NAME") or "default"
    )


def zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise BadSettings(
            f"`{name}` is not a time zone", hint="use an IANA name such as UTC or Europe/Berlin"
        ) from None
