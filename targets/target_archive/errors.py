"""What can go wrong in the archive, each with the problem, the place, a hint and the exit status it ends in.

ArchiveError
├ FormatError      not an archive, or written by a newer version     1
├ CorruptArchive   a commit record or a data file is not as written  1
├ ArchiveLocked    another writer holds the source                  11
├ StorageFailed    disk full, no permission, I/O error               1
├ NotHeld          what is asked for was lost, and cannot be told   1
├ BadInput         what came in is not Singer                        1
└ BadSettings      a setting is missing, unknown or of wrong kind    2
"""

from __future__ import annotations


class ArchiveError(Exception):
    """The problem in one sentence; `where` is a path or a name; `hint` is what a person can do about it."""

    exit_status = 1

    def __init__(self, problem: str, *, where: str = "", hint: str = "") -> None:
        super().__init__(problem)
        self.problem, self.where, self.hint = problem, where, hint

    def __str__(self) -> str:
        return self.problem + (f" ({self.where})" if self.where else "") + (f": {self.hint}" if self.hint else "")


class FormatError(ArchiveError):
    """This is not an archive, or one that a newer version has written."""


class CorruptArchive(ArchiveError):
    """Something in the archive is not what the commit log says it is."""


class ArchiveLocked(ArchiveError):
    """Another process is writing to the same source."""

    exit_status = 11


class StorageFailed(ArchiveError):
    """A file operation failed; nothing that was acknowledged is affected."""


class NotHeld(ArchiveError):
    """What is asked for was in the archive once, and was lost to damage."""


class BadInput(ArchiveError):
    """The input is not a Singer stream that can be archived."""


class BadSettings(ArchiveError):
    """The configuration cannot be used."""

    exit_status = 2
