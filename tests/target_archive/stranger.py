"""A reader of archives that follows FORMAT.md alone, in sixty lines of the standard library."""

import gzip
import hashlib
import json
from functools import reduce
from itertools import accumulate
from pathlib import Path
from types import SimpleNamespace
from typing import Any


def read(folder: Path) -> SimpleNamespace:
    log = SimpleNamespace(folder=folder, times=[], streams={}, days={}, same={}, state=None, claims={}, prev="", run="")
    for seq, path in enumerate(sorted((folder / "_meta/commits").glob("[0-9]*.json")), 1):
        body, digest = path.read_text().split("\n")[:2]
        commit = json.loads(body)
        assert (seq, log.prev, sha256(body.encode())) == (commit["seq"], commit["prev"], digest)
        log.mine, log.run, log.prev = log.mine if log.run == commit["run"] else {}, commit["run"], digest
        log.times.append(commit["at"])
        log.streams |= commit.get("streams", {})
        for key, earlier in by_day(commit, "same"):
            log.days.pop(key, None)
            log.same.setdefault(key, []).append((seq, earlier))
        for one in commit.get("segments", []):
            held = log.days.setdefault((one["stream"], one["day"]), {"parts": {}, "n": [(0, 0)], "gone": []})
            held["parts"][f"pack {seq:08d}"] = one | {"path": f"_meta/packs/{seq:08d}.pack"}
            held["n"].append((seq, held["n"][-1][1] + one["lines"]))
        for one in commit.get("files", []):
            held, place = log.days[one["stream"], one["day"]], log.streams[one["stream"]]["folder"]
            one["path"] = f"{'_meta/dead_letters' if place == '_dead_letters' else place}/{one['name']}"
            later = {
                name: of for name, of in held["parts"].items() if not "pack" < name <= f"pack {one['through']:08d}"
            }
            held["parts"] = later | {f"file {one['part']:08d}": one}
        for key, _ in by_day(commit, "lost"):
            left = sum(one["lines"] for one in log.days[key]["parts"].values())
            log.days[key] |= {"n": [(0, 0), (seq, left)], "gone": [], "pin": 0, "repaired": seq}
        for key, pin in by_day(commit, "pins"):
            log.days[key]["pin"] = pin
        for key, numbers in by_day(commit, "gone"):
            log.days[key]["gone"] += [(seq, number) for number in numbers]
        log.state = commit.get("state") or log.state
        for name, claims in (commit.get("state") or {}).get("claims", {}).items():
            known = log.claims.setdefault(name, [])
            known[log.mine.setdefault(name, len(known)) :] = claims
    return log


def view(log: SimpleNamespace, stream: str, day: str, at: int | str | None = None) -> list[bytes]:
    held, latest, text = log.days.get((stream, day), {"n": [(0, 0)], "parts": {}, "gone": []}), dict[str, bytes](), b""
    seq = sum(time <= at for time in accumulate(log.times, max)) if isinstance(at, str) else at
    seq = held.get("pin") or len(log.times) if seq is None else seq
    assert seq >= held.get("repaired", 0), "what was lost is not known"
    count, gone = max(many for at, many in held["n"] if at <= seq), {line for at, line in held["gone"] if at <= seq}
    for since, earlier in [(since, of) for since, of in log.same.get((stream, day), []) if since <= seq and not count]:
        return view(log, stream, earlier, max(since, min(log.days[stream, earlier].get("repaired", 0), seq)))
    for _, one in sorted(held["parts"].items()):
        data = (log.folder / one["path"]).read_bytes()[one.get("offset", 0) :][: one["size"]]
        assert sha256(data) == one["sha256"]
        text += data if one["path"].endswith(".jsonl") else gzip.decompress(data)
    for number, line in enumerate(text.split(b"\n")[:count], 1):
        key = key_of(json.loads(line), log.streams[stream].get("key_properties", [])) or str(number)
        latest.pop(key, None)
        latest |= {} if number in gone else {key: line}
    return list(latest.values())


def by_day(commit: Any, name: str) -> list[Any]:
    return [((stream, day), what) for stream, days in commit.get(name, {}).items() for day, what in days.items()]


def key_of(record: Any, paths: list[str]) -> str:
    values = [reduce(lambda value, step: (value or {}).get(step), path.split("."), record) for path in paths]
    return json.dumps(values) if paths else ""


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
