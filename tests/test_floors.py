"""The floors of the house: imports go down only, and the two sides never meet."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = {
    path.name: path
    for side in ("taps", "targets")
    for path in sorted((ROOT / side).iterdir())
    if (path / "__init__.py").exists()
}

# A module may import modules of lower floors, and of its own floor where these form no cycle.
FLOORS: dict[str, list[set[str]]] = {
    "tap_rest": [
        {"component", "errors", "inflate", "json_text", "page", "places", "request", "spool", "streamed", "xml_text"},
        {
            "auth",
            "books",
            "breaker",
            "flow",
            "jwt",
            "oauth",
            "session",
            "signing",
            "fields",
            "formats",
            "jobs",
            "limits",
            "links",
            "paginators",
            "paging",
            "partitions",
            "quota_headers",
            "records",
            "redaction",
            "replication",
            "verdicts",
        },
        {
            "binding",
            "checkpoint",
            "checks",
            "declaration",
            "evidence",
            "memory",
            "reading",
            "references",
            "schema",
            "state",
            "vocabulary",
            "yaml_source",
        },
        {
            "attempts",
            "authorize",
            "capture",
            "credentials",
            "engine",
            "explain",
            "har",
            "job_reader",
            "logs",
            "messages",
            "parents",
            "reader",
            "rounds",
            "running",
            "sending",
            "shared_books",
            "signals",
            "telling",
            "tokens",
            "transport",
            "turns",
            "wire",
        },
        {"command", "stream", "tap"},
    ],
    "tap_file": [{"files"}, {"run"}, {"tap"}],
    "target_archive": [
        {"errors", "day", "layout", "shape", "commit", "fields"},
        {"storage", "lease", "objects", "dayfile", "dedupe", "drift", "settings", "messages"},
        {"log", "coverage", "writer", "archive", "views", "quality", "integrity", "reading"},
        {"sink", "archiver", "rereads", "dead_letters", "repair", "sealing"},
        {"progress", "target", "sdk"},
    ],
}
# What a package may import of ours.
ALLOWED = {
    "tap_declarations": {"tap_rest"},
    "tap_file": {"tap_rest"},
    "tap_rest": {"tap_declarations"},
    "tap_sample": {"tap_rest", "tap_declarations"},
    "target_archive": set(),
    "daykeep": {"target_archive"},
}
# The adapters, which alone know the Singer SDK.
SDK_MODULES = {
    "daykeep.tap_archive",
    "tap_file.tap",
    "tap_rest.command",
    "tap_rest.stream",
    "tap_rest.tap",
    "target_archive.sdk",
}


def modules() -> list[tuple[str, str, Path]]:
    return [(name, path.stem, path) for name, folder in PACKAGES.items() for path in sorted(folder.rglob("*.py"))]


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
    return found


def file_of(package: str, name: str) -> str:
    """The module, by its file's name, that a dotted name inside a package leads to; empty for the package itself."""
    steps = name.split(".")[1:]
    for count in range(len(steps), 0, -1):
        if PACKAGES[package].joinpath(*steps[:count]).with_suffix(".py").exists():
            return steps[count - 1]
    return ""


def floor_of(package: str, module: str) -> int | None:
    return next((number for number, floor in enumerate(FLOORS.get(package, [])) if module in floor), None)


@pytest.mark.parametrize(
    ("package", "module", "path"), modules(), ids=lambda value: value if isinstance(value, str) else ""
)
def test_a_module_imports_only_what_stands_below_it(package: str, module: str, path: Path) -> None:
    own = floor_of(package, module)
    for name in imports(path):
        other = name.partition(".")[0]
        if other not in PACKAGES:
            assert other not in {"taps", "targets"}
            assert other != "singer_sdk" or f"{package}.{module}" in SDK_MODULES, f"{module} imports {name}"
        elif other != package:
            assert other in ALLOWED[package], f"{package}.{module} imports {name}"
        elif own is not None and (below := floor_of(other, file_of(other, name))) is not None:
            assert below <= own, f"{package}.{module} on floor {own + 1} imports {name} on floor {below + 1}"


@pytest.mark.parametrize("package", FLOORS)
def test_every_module_stands_on_a_floor(package: str) -> None:
    present = {path.stem for path in PACKAGES[package].rglob("*.py")} - {"__init__"}
    assert present == set().union(*FLOORS[package])


@pytest.mark.parametrize("package", PACKAGES)
def test_modules_of_a_package_form_no_cycle(package: str) -> None:
    graph = {
        path.stem: {file_of(package, name) for name in imports(path) if name.startswith(f"{package}.")}
        - {path.stem, ""}
        for path in PACKAGES[package].rglob("*.py")
    }
    done: set[str] = set()

    def visit(module: str, way: tuple[str, ...]) -> None:
        assert module not in way, " → ".join((*way, module))
        if module not in done:
            for other in graph.get(module, ()):
                visit(other, (*way, module))
            done.add(module)

    for module in graph:
        visit(module, ())


def test_the_framework_names_no_api() -> None:
    names = {path.stem for path in PACKAGES["tap_declarations"].glob("*.yaml")} - {"sample"}
    for path in PACKAGES["tap_rest"].rglob("*.py"):
        if path.stem in ("limits", "quota_headers"):  # families of headers are called after those who send them
            continue
        words = path.read_text().lower()
        assert not [name for name in names if name in words], path
