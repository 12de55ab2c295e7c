"""Peer: a plain singer-sdk tap over the benchmark API, as its documentation shows one. BENCH_URL=URL python FILE."""

from __future__ import annotations

import os
from typing import Any

from singer_sdk import RESTStream, Tap
from singer_sdk import typing as th

OPEN = th.ObjectType(additional_properties=True)


class Events(RESTStream):
    name = "events"
    path = "/events"
    url_base = os.environ["BENCH_URL"]
    primary_keys = ("id",)
    replication_key = "updated_at"
    records_jsonpath = "$.data[*]"
    next_page_token_jsonpath = "$.next_page"
    schema = th.PropertiesList(
        th.Property("id", th.IntegerType),
        th.Property("type", th.StringType),
        th.Property("actor", OPEN),
        th.Property("repo", OPEN),
        th.Property("payload", OPEN),
        th.Property("amount", th.NumberType),
        th.Property("ratio", th.NumberType),
        th.Property("public", th.BooleanType),
        th.Property("note", th.StringType),
        th.Property("created_at", th.DateTimeType),
        th.Property("updated_at", th.DateTimeType),
    ).to_dict()

    def get_url_params(self, context: Any, next_page_token: Any) -> dict[str, Any]:  # noqa: ARG002 - the SDK's signature
        return {"page": next_page_token} if next_page_token else {}


class TapBench(Tap):
    name = "tap-bench"

    def discover_streams(self) -> list[Any]:
        return [Events(self)]


if __name__ == "__main__":
    TapBench.cli()
