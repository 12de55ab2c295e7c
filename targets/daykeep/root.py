"""Where the archive is: from `--root`, the environment, the project's `meltano.yml`, or the folder `archive` here."""

from __future__ import annotations

import difflib
import os
import string
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from target_archive import archive
from target_archive.archive import Archive
from target_archive.errors import BadSettings, FormatError
from target_archive.storage import Storage, storage_of

ENVIRONMENT_VARIABLE = "DAYKEEP_ROOT"
_LOADER = "target-archive"


class Root(msgspec.Struct, frozen=True):
    """A root folder, what named it, and the settings of `target-archive` that were found with it."""

    path: str | Path
    origin: str
    settings: dict[str, Any] = {}

    @property
    def storage(self) -> Storage:
        return storage_of(self.path, assume_single_writer=self.settings.get("single_writer") == "assumed")

    def sources(self) -> list[str]:
        """Names of the sources in it. Raises FormatError where there is no archive."""
        try:
            return archive.sources(self.path)
        except FormatError:
            raise FormatError(
                "no archive here",
                where=f"{self.path}, from {self.origin}",
                hint="archive something with `daykeep run TAP`, or name another folder with --root",
            ) from None

    def chosen(self, source: str | None) -> list[str]:
        """The one source, or all of them. Raises BadSettings for a source that is not there."""
        known = self.sources()
        if source is None:
            return known
        if source not in known:
            raise unknown("source", source, known, where=f"{self.path}, from {self.origin}")
        return [source]

    def archives(self, source: str | None) -> list[Archive]:
        """The archive of each chosen source. Raises CorruptArchive where a commit log cannot be trusted."""
        return [Archive(self.path, name) for name in self.chosen(source)]

    def holding(self, stream: str, source: str | None) -> Archive:
        """The archive of the one source that has the stream. Raises BadSettings where none has, or several have."""
        archives = self.archives(source)
        found = [archive for archive in archives if stream in archive.streams()]
        if not found:
            names = {name for archive in archives for name in archive.streams()}
            raise unknown("stream", stream, names, where=str(self.path))
        if len(found) > 1:
            names = {archive.source for archive in found}
            hint = f"use --source: {', '.join(sorted(names))}"
            raise BadSettings(f"several sources have a stream `{stream}`", hint=hint)
        return found[0]


def find_root(option: str | None) -> Root:
    """The root that a command works on. Raises BadSettings where nothing names one."""
    if option:
        return Root(_place(option, Path.cwd()), "--root")
    if named := os.environ.get(ENVIRONMENT_VARIABLE):
        return Root(_place(named, Path.cwd()), ENVIRONMENT_VARIABLE)
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (file := folder / "meltano.yml").is_file():
            settings = _settings_of_loader(file)
            if "root" in settings:
                return Root(_place(str(settings.pop("root")), folder), str(file), settings)
            break
    if (here / "archive").is_dir():
        return Root(here / "archive", "the current folder")
    raise BadSettings(
        "no archive was named",
        where=str(here),
        hint=f"use --root, set {ENVIRONMENT_VARIABLE}, or go to a folder with a meltano.yml or an archive",
    )


def _place(root: str, folder: Path) -> str | Path:
    return root if "://" in root else (folder / root).absolute()


def _settings_of_loader(file: Path) -> dict[str, Any]:
    """What a Meltano project sets for `target-archive`, its variables filled in."""
    import yaml  # noqa: PLC0415 - slow to load, and needed in a project alone

    found: dict[str, Any] = {}
    try:
        for loader in yaml.safe_load(file.read_text())["plugins"]["loaders"]:
            if loader["name"] == _LOADER:
                found |= {one["name"]: one["value"] for one in loader.get("settings") or [] if "value" in one}
                found |= loader.get("config") or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        hint = " ".join(str(error).split())
        raise BadSettings("the project file cannot be read", where=str(file), hint=hint) from None
    except (KeyError, TypeError, AttributeError):
        return {}  # it says nothing of an archive
    variables = {**os.environ, "MELTANO_PROJECT_ROOT": str(file.parent)}
    try:
        return {
            name: string.Template(value).substitute(variables) if isinstance(value, str) else value
            for name, value in found.items()
        }
    except (KeyError, ValueError) as error:
        raise BadSettings(f"a variable of `{_LOADER}` has no value: {error}", where=str(file)) from None


def unknown(kind: str, name: str, known: Iterable[str], *, where: str = "") -> BadSettings:
    """The error for a name that does not exist, with the nearest that do."""
    known = list(known)
    near = difflib.get_close_matches(name, known, 1)
    hint = f"did you mean `{near[0]}`?" if near else f"known are {', '.join(sorted(known)[:8]) or 'none'}"
    return BadSettings(f"there is no {kind} `{name}`", where=where, hint=hint)
