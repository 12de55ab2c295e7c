"""The vocabulary of a declaration: what may stand in the YAML file, below the file as a whole (declaration.py).

Components (paginators, auth, records …) bring their own options; here are the parts that only hold facts.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from tap_rest.component import Component
from tap_rest.errors import ConfigError
from tap_rest.formats.formats import Format, JsonFormat
from tap_rest.formats.records import Records
from tap_rest.language.jobs import Job
from tap_rest.language.paginators import Paginator, SinglePagePaginator, SyncTokenPaginator
from tap_rest.language.partitions import ForEach
from tap_rest.language.replication import Replication, moment
from tap_rest.language.verdicts import Rule

UrlPath = Annotated[str, msgspec.Meta(pattern="^/", examples=["/v1/items"])]
Name = Annotated[str, msgspec.Meta(pattern="^[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}$")]
Param = str | int | float | bool | list[str | int] | None
"""A parameter: a list is repeated, null takes back one that the API's defaults give."""


class Setting(Component, frozen=True, kw_only=True):
    """One setting that a user gives.

    Attributes:
        kind: What it is: `string`, `integer`, `boolean` or `date_iso8601`.
        required: Whether nothing works without it.
        sensitive: A secret: masked everywhere, and usable only in `auth`.
        description: For `--about` and the reference.
        default: The value where the user gives none.
    """

    kind: Literal["string", "integer", "boolean", "date_iso8601"] = "string"
    required: bool = False
    sensitive: bool = False
    description: str = ""
    default: str | int | bool | None = None

    def json_schema(self) -> dict[str, Any]:
        """The setting in the JSON Schema of a tap's config."""
        kind = {"integer": "integer", "boolean": "boolean"}.get(self.kind, "string")
        facts = {
            "description": self.description,
            "default": self.default,
            "secret": self.sensitive or None,
            "writeOnly": self.sensitive or None,
        }
        return {
            "type": [kind] if self.required else [kind, "null"],
            **{k: v for k, v in facts.items() if v not in (None, "")},
        }

    def text(self, name: str, given: Any) -> str | None:
        """A given value as text to put in; None where there is none and none is needed.

        Raises ConfigError, without the value, where it is missing or not of the kind.
        """
        value = self.default if given in (None, "") else given
        if value is None:
            if self.required:
                raise ConfigError(f"the setting `{name}` is missing", hint=self.description)
            return None
        text = str(value).lower() if isinstance(value, bool) else str(value)
        fits = {
            "string": isinstance(value, str | int) and not isinstance(value, bool),
            "integer": text.removeprefix("-").isdecimal(),
            "boolean": text in ("true", "false"),
            "date_iso8601": isinstance(value, str) and moment(value) is not None,
        }[self.kind]
        if not fits:
            raise ConfigError(f"the setting `{name}` is not of the kind {self.kind}", hint=self.description)
        lines = text.split("\n") if text.startswith("-----BEGIN ") else [text]  # a key in PEM has several
        if not all(map(str.isprintable, lines)):
            raise ConfigError(f"the setting `{name}` holds a line break or another control character")
        return text


class Day(Component, frozen=True, kw_only=True):
    """Which day a record belongs to: a hint for the archive.

    Attributes:
        field: The field with the time or date.
        tz: The zone whose days are meant.
    """

    field: str
    tz: str = "UTC"


class Timeouts(Component, frozen=True, kw_only=True):
    """Seconds that a request may take.

    Attributes:
        connect: To connect.
        read: Between two pieces of the answer.
        total: From the first byte sent to the last received.
    """

    connect: float = 10.0
    read: float = 60.0
    total: float = 300.0


class Check(Component, frozen=True, kw_only=True):
    """One cheap request that proves the credentials.

    Attributes:
        path: Path below base_url.
        params: Query parameters.
    """

    path: UrlPath
    params: dict[str, Param] = {}


class Defaults(Component, frozen=True, kw_only=True):
    """What may stand at the top, for all streams, and in a stream, for itself; merged key by key.

    Attributes:
        method: GET, or POST with a body.
        params: Query parameters.
        lists: How a list among them is sent: `repeat` for `id=1&id=2`, `comma` for `id=1,2`, `brackets` for
            `id[]=1&id[]=2`.
        headers: Request headers.
        body: Members of a POST's body; `{query: "…", variables: {…}}` for GraphQL.
        body_as: Whether the body is sent as `json` or as a `form`.
        format: What the answers are written in; JSON unless declared.
        records: Where the records are; a path alone is short for `{type: path}`, `$` for `{type: root}`.
        paginator: How pages follow each other.
        errors: What answers mean; a stream's own lines come before the API's.
        timeouts: Seconds that a request may take.
        primary_keys: The fields that identify a record.
        replication: How the stream is read incrementally.
        day: Which day a record belongs to.
        mode: How the archive treats the stream.
        volatile: Fields that change without meaning.
        include: Members to add to each record that has none of that name.
    """

    method: Literal["GET", "POST"] = "GET"
    params: dict[str, Param] = {}
    lists: Literal["repeat", "comma", "brackets"] = "repeat"
    headers: dict[str, str | None] = {}
    body: dict[str, Any] | None = None
    body_as: Literal["json", "form"] = "json"
    format: Format = JsonFormat()
    records: Records | None = None
    paginator: Paginator = SinglePagePaginator()
    errors: list[Rule] = []
    timeouts: Timeouts = Timeouts()
    primary_keys: list[str] = []
    replication: Replication | None = None
    day: Day | None = None
    mode: Literal["event", "entity", "changelog", "metric", "snapshot"] | None = None
    volatile: list[str] = []
    include: dict[str, str] = {}


class Stream(Defaults, frozen=True, kw_only=True):
    """One stream, with the API's defaults merged in.

    Attributes:
        path: Path below base_url.
        for_each: What the stream is read once for each of.
        job: The request orders a report, which is read when it is ready.
        conditional: Ask with the ETag or Last-Modified of the last answer whether anything has changed; a 304 is proof
            that nothing has. Of a stream of several pages only where the newest records come first.
        schema: JSON Schema of a record, or where it stands in a file beside the declaration, an OpenAPI document for
            example: `openapi.yaml#/components/schemas/Issue`. Fields that it does not name are kept as well.
        description: For people.
    """

    path: UrlPath
    records: Records
    for_each: ForEach | None = None
    job: Job | None = None
    conditional: bool = False
    schema: dict[str, Any] | str | None = None
    description: str = ""

    def __post_init__(self) -> None:
        if self.job is not None and (self.conditional or isinstance(self.paginator, SyncTokenPaginator)):
            raise ValueError("a report is new each time: `job` goes with neither `conditional` nor sync tokens")
        if self.body_as == "form" and any(isinstance(value, dict | list) for value in (self.body or {}).values()):
            raise ValueError("a form has no lists and no objects")
        self._check_token_place()
        if self.for_each is not None and not self.primary_keys and not self.include:
            raise ValueError("without primary_keys `include` must name the partition, or equal records look like one")
        if self.for_each is not None and self.replication is not None and (self.by_change or self.for_each.batch):
            raise ValueError("a partition that is read whole, or in batches, has no `replication` of its own")

    def _check_token_place(self) -> None:
        """Whether the body has room for the cursor. Raises ValueError."""
        inner: Any = self.body or {}
        path = getattr(self.paginator, "into_body", None) or ""
        for key in path.split(".")[:-1] if self.body_as == "json" else ():
            inner = inner.get(key, {})
            if not isinstance(inner, dict):
                problem = f"`into_body: {path}` has no place in the body, where {key} is no object"
                raise ValueError(problem)  # noqa: TRY004 - of the declaration, which msgspec tells as a mistake

    @property
    def by_change(self) -> bool:
        """Whether its partitions are read when their parents have changed."""
        return self.for_each is not None and self.for_each.only == "changed"

    def json_schema(self) -> dict[str, Any]:
        """The Singer schema: always open, the same in every run, with the `x-daykeep-*` hints that are declared."""
        declared = self.schema if isinstance(self.schema, dict) else {}
        keys = [*self.primary_keys, *([self.replication.key] if self.replication else [])]
        loose = {key: {"type": ["string", "integer", "number", "boolean", "null"]} for key in keys}
        hints = {
            "x-daykeep-day": self.day and msgspec.structs.asdict(self.day),
            "x-daykeep-mode": self.mode,
            "x-daykeep-composed": self.format.composes or self.records.composes,
            "x-daykeep-volatile": self.volatile,
        }
        return {
            **declared,
            "type": "object",
            "properties": {**loose, **declared.get("properties", {})},
            "additionalProperties": True,
            **{name: hint for name, hint in hints.items() if hint},
        }


COMMON_SETTINGS = {
    "start_date": Setting(kind="date_iso8601", description="Where to begin in streams that have no bookmark yet"),
    "end_date": Setting(kind="date_iso8601", description="Where to end, exclusive; without it as far as there is"),
    "max_wait": Setting(
        kind="integer", default=3600, description="Seconds to wait at most for a rate limit; then the run is postponed"
    ),
}
"""Settings that every tap has."""
