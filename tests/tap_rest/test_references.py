"""Schemas in files of their own, OpenAPI documents among them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tap_rest.errors import DeclarationError
from tap_rest.language.references import schema_at

OPENAPI = """
openapi: 3.0.3
components:
  schemas:
    Issue:
      type: object
      properties:
        id: {type: integer}
        title: {type: string, nullable: true}
        user: {$ref: "#/components/schemas/User"}
        "a/b": {type: string}
        labels: {type: array, items: {$ref: "#/components/schemas/Label"}}
    User: {type: object, properties: {login: {type: string}, boss: {$ref: "#/components/schemas/User"}}}
    Label: {type: object, properties: {issue: {$ref: "#/components/schemas/Issue"}}}
    Wide: {type: object, properties: {}}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "api.yaml").write_text(OPENAPI)
    (tmp_path / "issue.json").write_text('{"type": "object", "properties": {"id": {"type": "integer"}}}')
    return tmp_path


def test_a_component_of_an_openapi_document_is_a_schema_without_references(folder: Path) -> None:
    found = schema_at("api.yaml#/components/schemas/Issue", folder)
    assert found["properties"]["title"] == {"type": ["string", "null"]}
    user = found["properties"]["user"]["properties"]
    assert user["login"] == {"type": "string"}
    assert user["boss"] == {}, "what holds itself is left open"
    assert "$ref" not in str(found)


def test_a_file_of_its_own_is_a_schema(folder: Path) -> None:
    assert schema_at("issue.json", folder)["properties"] == {"id": {"type": "integer"}}
    assert schema_at("api.yaml#/components/schemas/Issue/properties/a~1b", folder) == {"type": "string"}


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ("api.yaml#/components/schemas/Isue", "no 'Isue'"),
        ("nothing.yaml#/x", "can't be read"),
        ("../api.yaml#/components", "below it"),
        ("/etc/passwd", "below it"),
        ("api.yaml#/openapi", "there is no schema"),
    ],
)
def test_a_reference_that_leads_nowhere_is_a_mistake(folder: Path, reference: str, said: str) -> None:
    with pytest.raises(DeclarationError, match=said):
        schema_at(reference, folder)


def test_a_document_made_to_grow_without_end_is_left_open_somewhere(tmp_path: Path) -> None:
    levels = [
        f'  s{number}: {{a: {{$ref: "#/s{number + 1}"}}, b: {{$ref: "#/s{number + 1}"}}}}' for number in range(40)
    ]
    (tmp_path / "bomb.yaml").write_text("\n".join(line[2:] for line in levels) + "\ns40: {type: string}\n")
    assert isinstance(schema_at("bomb.yaml#/s0", tmp_path), dict)
