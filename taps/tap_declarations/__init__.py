"""The declarations that come with Daykeep: one YAML file for each API, data only; each is a console script as well."""

from __future__ import annotations

from collections.abc import Callable
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


def __getattr__(name: str) -> Callable[[], None]:
    """The console script of an API: `tap-acme = "tap_declarations:acme"`. Raises AttributeError for an unknown one."""
    if name not in names():
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def main() -> None:
        from tap_rest.command import reported  # noqa: PLC0415 - the framework imports this module
        from tap_rest.tap import declared_tap  # noqa: PLC0415 - the framework imports this module

        with reported(f"tap-{name}"):
            declared_tap(name).cli()

    return main
