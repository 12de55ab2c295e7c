"""The declarations that come with Daykeep: one YAML file for each API, data only."""

from __future__ import annotations

from pathlib import Path

_FOLDER = Path(__file__).parent


def path(name: str) -> Path:
    """Where the packaged declaration of an API is. Raises KeyError for a name that is not packaged."""
    found = _FOLDER / f"{name}.yaml"
    if name not in names():
        raise KeyError(name)
    return found


def names() -> tuple[str, ...]:
    """The APIs that are packaged, sorted."""
    return tuple(sorted(file.stem for file in _FOLDER.glob("*.yaml")))
