"""Text that is not clean JSON, through `tap-rest | target-archive`: archived byte for byte, or as a dead letter."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from tests.tap_rest.hostile import Hostile, response

from target_archive.archive import Archive

BIN = Path(sys.executable).parent
ODD = [
    b'{"a":NaN,"b":[-Infinity,Infinity]}',
    b'{"a":"\\ud800","\\udfff":1}',
    b'{"a":1,"a":2,"\\u0061":3}',
    b'{"a":"\\u0000\\/\\u00e4","b":"\xc3\xa4\xe2\x80\xa8\xef\xbf\xbd\xf0\x9f\x8c\x8d"}',
    b'{"a":1e999,"b":-0.0,"c":1.10,"d":9223372036854775808,"e":1E+5,"f":%s}' % (b"7" * 5000),
    b'{"a":%s}' % (b"[" * 3000 + b"]" * 3000),
    b'{"a":%s1%s}' % (b'{"b":' * 3000, b"}" * 3000),
    b'{ "a" :\t1 , "b":[ ] }',
    b'{"":"","__proto__":null}',
    b'{"a":"%s"}' % (b"x" * 2_000_000),
    b"{}",
]
PLACES = {
    "path": ("data", "json", b'{"n":1,"data":[%b],"next":null}' % b",".join(ODD)),
    "root": ("$", "json", b"\xef\xbb\xbf[%b]" % b" , ".join(ODD)),
    "wild": ("*.rows", "json", b"[%b]" % b",".join(b'{"rows":[%b]}' % record for record in ODD)),
    "lines": ("$", "jsonl", b"\r\n".join(ODD)),
}


@pytest.mark.case("C8")
@pytest.mark.case("C9")
def test_every_record_is_kept_byte_for_byte(tmp_path: Path) -> None:
    streams = {
        name: {"path": f"/{name}", "records": records, "format": {"type": kind}}
        for name, (records, kind, _) in PLACES.items()
    }
    file, root = tmp_path / "api.json", tmp_path / "archive"
    with Hostile(lambda request: [response(PLACES[request.split()[1][1:]][2])]) as server:
        file.write_text(json.dumps({"name": "tap-odd", "base_url": server.url, "streams": streams}))
        tap = [str(BIN / "tap-rest"), "--config", json.dumps({"declaration": str(file)})]
        said = subprocess.run(tap, capture_output=True, check=True)
    target = [str(BIN / "target-archive"), "--config", json.dumps({"root": str(root), "source": "odd"})]
    kept = subprocess.run(target, input=said.stdout, capture_output=True, check=False)
    assert kept.returncode == 1, "dead letters show in the exit status"
    archive = Archive(root, "odd")
    letters = [json.loads(letter) for letter in archive.dead_letters()]
    assert all(letter["reason"] for letter in letters)
    for name in PLACES:
        buried = [letter["line"].encode() for letter in letters if f'"stream":"{name}"' in letter["line"]]
        lines = Counter(archive.lines(name))
        assert sum(lines.values()) + len(buried) == len(ODD)
        for record in ODD:
            assert lines[record] or any(b'"record":%b,"time_extracted"' % record in line for line in buried), record
        assert len(buried) == 4, "what msgspec does not take: NaN, half a surrogate pair, two depths"
