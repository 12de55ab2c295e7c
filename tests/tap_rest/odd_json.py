"""Records that are not clean JSON, or only just: what every reader of records has to keep byte for byte or refuse."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator


def _words(text: str, between: str | None = None) -> list[str]:
    return text.split(between)


WHOLE = '{"ä": [1.10, -0.0, {"b\\ud83d": "x\\"}],"}, null], "b": {"c": "€\\u0041"}, "b": true}'.encode()

NUMBERS = _words(
    "0 -0 -0.0 1.10 1e5 1E+5 1e-5 1e999 -1e-999 0e0 0.0e-0 9223372036854775807 9223372036854775808 "
    "-9223372036854775809 18446744073709551616 123456789012345678901234567890 0.1234567890123456789012345678901234 "
    "00 01 -01 +1 .5 5. -.5 -5. 1e 1e+ 1E- e5 - + -- 1-1 1+1 1.2.3 1..2 1e5.5 0x1F 0b1 0o7 1_000 1,5 1f 1L "
    "\u0661 \uff11"
)
WORDS = _words(
    "true false null NaN Infinity -Infinity True False None TRUE Null nan inf -inf -NaN +Infinity +NaN infinity "
    "undefined nul tru nulll x NaN1 1NaN"
)
SHAPES = _words(
    '{"a":1 "b":2}|{"a" 1}|{"a":}|{"a"}|{:1}|{"a":1,}|{,"a":1}|{,}|{"a":1,,"b":2}|{"a"::1}|{"a":1:2}|{a:1}|{\'a\':1}|'
    '{"a":\'1\'}|{1:1}|{null:1}|{"a":[1,]}|{"a":[,1]}|{"a":[1 2]}|{"a":[1:2]}|{"a":(1)}|{"a":{}}}|{"a":[}|{"a":[1}]|'
    '{"a":"x""y"}|{"a":"x"+"y"}|{"a":1}/**/|{"a":/*c*/1}|{"a":1//c}|{"a":1#c}|{"a":<b>}|{"a":1};|{"a":1}{"b":2}|'
    '{"a":1,"a":2}|{"a":1,"\\u0061":2}|{"a":{"b":1,"b":2}}|{"":1,"":2}|{"a":"}","a":"{"}|{}|{"":""}|{"__proto__":{}}|'
    '{"a":"\\"}|{"a":"\\\\"}|{"a":"\\\\\\""}|{"a":"},{"}|{"a":"],["}|{"a":"{\\"id\\":1},{\\"id\\":2}"}|{"a":[[],{},[{}]]}',
    "|",
)
ESCAPES = [
    *(f"\\{chr(code)}" for code in range(0x20, 0x7F)),
    *_words("\\u0000 \\u001f \\u0041 \\u00e4 \\u2028 \\uFFFE \\uffff \\ud83d\\ude00 \\ud83d \\ude00 \\ude00\\ud83d"),
    *_words("\\ud83dx \\ud83d\\n \\ud83d\\u0041 \\ud83d\\ud83d\\ude00 \\u004 \\u \\uXYZW \\u00g1 \\u+123 \\u-123"),
    *_words("\\u{41} \\U00000041 \\x41 \\101 \\N \\  \\u\u0660\u0660\u0660\u0660", " "),
]
SEQUENCES = _words(
    "c080 c1bf e08080 f0808080 eda080 edb080 eda0bdedb880 f4908080 f8808080 c3 e282 f09f98 c3a4 e282ac f09f9880 efbfbe "
    "efbfbf efbbbf 80 bf fe ff c328 e228a1 f0288cbc e280a8 e280a9 c285 f48fbfbf 7f c2a0"
)


def odd_tokens() -> Iterator[tuple[str, bytes]]:
    """Names and texts, each where a record is expected."""
    for number, word in enumerate([*NUMBERS, *WORDS]):
        yield f"value {number}", b'{"a":%b}' % word.encode()
        yield f"element {number}", b'{"a":[%b,"x"]}' % word.encode()
    for number, shape in enumerate(SHAPES):
        yield f"shape {number}", shape.encode()
    for number, escape in enumerate(ESCAPES):
        yield f"escape {number}", b'{"a":"%b"}' % escape.encode()
    for number, escape in enumerate(ESCAPES[-26:]):
        yield f"escaped name {number}", b'{"%b":1}' % escape.encode()


def odd_bytes() -> Iterator[tuple[str, bytes]]:
    """The same, by their bytes and size rather than by their tokens."""
    for code in [*range(0x21), 0x7F, *range(0x80, 0x100, 5)]:
        yield f"byte {code:02x} in a text", b'{"a":"x%by"}' % bytes([code])
        yield f"byte {code:02x} between tokens", b'{"a":%b1}' % bytes([code])
    for sequence in SEQUENCES:
        yield f"bytes {sequence} in a text", b'{"a":"%b"}' % bytes.fromhex(sequence)
        yield f"bytes {sequence} between tokens", b'{"a"%b:1}' % bytes.fromhex(sequence)
    for encoding in ("utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-7", "utf-8-sig", "latin-1"):
        yield encoding, '{"a":"ä"}'.encode(encoding)
    for depth in (500, 1000, 3000, 20_000):
        yield f"depth {depth}", b'{"a":%b}' % (b"[" * depth + b"]" * depth)
        yield f"depth {depth}, unclosed", b'{"a":%b}' % (b'{"b":' * depth + b"1" + b"}" * (depth - 1))
    for digits in (400, 5000):
        yield f"{digits} digits", b'{"a":%b,"b":0.%b}' % (b"9" * digits, b"1" * digits)
    for end in range(len(WHOLE) + 1):
        yield f"cut at {end}", WHOLE[:end]


ODD = dict([*odd_tokens(), *odd_bytes()])
"""All of them by name."""


def is_record(text: bytes) -> bool:
    """Whether Python's reader, which stands for all that are lenient, takes the text for an object."""
    try:
        return isinstance(json.loads(text.decode(), parse_int=str, parse_float=str), dict)
    except RecursionError:
        return text.count(b"[") == text.count(b"]") and text.count(b"{") == text.count(b"}")
    except ValueError:
        return False


def on_one_line(text: bytes) -> bytes:
    """A record as it has to come out: without blanks between tokens where there is a line break among them."""
    if not re.search(rb"[\r\n]", text):
        return text
    return b"".join(token for token in re.findall(rb'"(?:[^"\\]|\\.)*"|\s+|[^"\s]+', text) if token.strip())
