"""Singer's own standard tests, against the sample API over real HTTP."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from singer_sdk.testing import SuiteConfig, get_tap_test_class

from tap_declarations import path
from tap_rest.tap import declared_tap
from tap_sample.server import TOKEN, SampleServer

FIELDS = {
    "airlines": "carrier:string name:string",
    "airports": "faa:string name:string lat:number lon:number alt:integer tz:integer dst:string tzone:string",
    "planes": "tailnum:string year:integer type:string manufacturer:string model:string engines:integer seats:integer"
    " speed:integer engine:string",
    "weather": "origin:string time_hour:string year:integer month:integer day:integer hour:integer temp:number"
    " dewp:number humid:number wind_dir:integer wind_speed:number wind_gust:number precip:number pressure:number"
    " visib:number",
}

_config = {"token": TOKEN}
"""The suite wants it at import; where the server is comes to it when there is one."""


def _typed_sample() -> str:
    """The sample declaration with its fields spelled out: the suite fails streams whose schema is open and loose."""
    declaration = yaml.safe_load(path("sample").read_text())
    for name, fields in FIELDS.items():
        typed = dict(field.split(":") for field in fields.split())
        properties = {field: {"type": [kind, "null"]} for field, kind in typed.items()}
        declaration["streams"][name]["schema"] = {"properties": properties}
    file = Path(tempfile.mkdtemp()) / "sample.yaml"
    file.write_text(yaml.safe_dump(declaration, sort_keys=False))
    return str(file)


@pytest.fixture(scope="module", autouse=True)
def _serving() -> Any:
    with SampleServer() as server:
        _config["base_url"] = server.base_url
        yield


TestTap: Any = get_tap_test_class(
    declared_tap(_typed_sample()),
    config=_config,
    suite_config=SuiteConfig(max_records_limit=1500),
)
