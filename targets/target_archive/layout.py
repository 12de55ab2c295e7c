"""Where things stand in an archive: every path is made here. `FORMAT.md` describes the same for readers."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Collection

UNDATED = "undated"
DEAD_LETTERS = "_dead_letters"
SUFFIXES = {"gzip": ".jsonl.gz", "none": ".jsonl"}

_PLAIN = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.@+")
_RESERVED = re.compile(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\..*)?")
_NAME_LIMIT = 120


def meta(source: str, *rest: str) -> str:
    return "/".join((source, "_meta", *rest))


def commits(source: str) -> str:
    return meta(source, "commits")


def commit(source: str, seq: int) -> str:
    return meta(source, "commits", f"{seq:08d}.json")


def checkpoint(source: str, seq: int) -> str:
    return meta(source, "commits", f"checkpoint-{seq:08d}.json")


def packs(source: str) -> str:
    return meta(source, "packs")


def pack(source: str, seq: int) -> str:
    return meta(source, "packs", f"{seq:08d}.pack")


def samples(source: str) -> str:
    return meta(source, "drift")


def sample(source: str, folder: str) -> str:
    return meta(source, "drift", f"{folder}.json")


def damaged(source: str, at: str, path: str) -> str:
    """Where a repair at a time keeps what it found at a path; no `*.jsonl*` pattern matches it."""
    return meta(source, "damaged", at, path.removeprefix(f"{source}/").replace(".jsonl", ".lines"))


def stream_folder(source: str, folder: str) -> str:
    return meta(source, "dead_letters") if folder == DEAD_LETTERS else f"{source}/{folder}"


def day_file(day: str, part: int, compression: str) -> str:
    return day + (f".p{part:03d}" if part > 1 else "") + SUFFIXES[compression]


def is_compressed(name: str) -> bool:
    return name.endswith(".gz")


def temporary(name: str, seq: int) -> str:
    """A hidden neighbour of `name` that no `*.jsonl*` pattern matches."""
    return f".{name}.{seq:08d}.tmp"


def number(name: str) -> int | None:
    """The number of a commit record or pack, None for any other name."""
    found = re.fullmatch(r"(\d{8})\.(json|pack)", name)
    return int(found[1]) if found else None


def checkpoint_number(name: str) -> int | None:
    """The number of the last commit that a checkpoint sums up, None for any other name."""
    found = re.fullmatch(r"checkpoint-(\d{8})\.json", name)
    return int(found[1]) if found else None


def safe_name(name: str) -> str:
    """A source or stream name as a file name: plain ASCII stays, the rest is percent-encoded; one to one."""
    encoded = "".join(chr(byte) if byte in _PLAIN else f"%{byte:02X}" for byte in name.encode("utf-8", "surrogatepass"))
    if not encoded or encoded[0] in "._-" or _RESERVED.fullmatch(encoded):
        encoded = f"%{ord(encoded[0]):02X}{encoded[1:]}" if encoded else "%"
    encoded = re.sub(r"\.$", "%2E", encoded)
    return encoded if len(encoded) <= _NAME_LIMIT else f"{encoded[: _NAME_LIMIT - 13]}~{_digest(name)}"


def folder_for(stream: str, taken: Collection[str]) -> str:
    """A folder name for a new stream that no file system can take for one of those `taken`."""
    name = safe_name(stream)
    folded = {unicodedata.normalize("NFC", other).casefold() for other in taken}
    return f"{name}~{_digest(stream)}" if name.casefold() in folded else name


def _digest(name: str) -> str:
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:12]
