"""Damage to valid files: bytes that change, JSON whose values do, and the same inside of what is packed."""

from __future__ import annotations

import copy
import json
from random import Random
from typing import Any

ODD_BYTES = (
    b"\0",
    b"\xff\xfe",
    b"\xff" * 8,
    b"\0" * 8,
    b"\x7f" + b"\xff" * 7,
    b"\r",
    b"\n",
    b'"',
    b"\t",
    b"{",
    b"\xc3\x28",
)
ODD_BYTES += (b"[" * 3000, b"../", b"/etc/passwd", b"-1", b"1e999", b"NaN", b"null", "\u2028".encode(), b"\xef\xbb\xbf")
ODD_VALUES: tuple[Any, ...] = (None, True, -1, 0, 1, 2**31, 2**63, 2**70, -(2**63), 1.5, float("nan"), float("inf"))
ODD_VALUES += ("", "x", "../../x", "/etc/passwd", "\0", "\ud800", "💥" * 50, [], {}, [[]], [None], {"": None}, [1, "x"])


def damaged(seed: bytes, chance: Random) -> bytes:
    """A file with something wrong in it: in the values of its JSON where it has some, or in any of its bytes."""
    if chance.random() < 0.6:
        found = _other_values(seed, chance)
        if found is not None:
            return found if chance.random() < 0.8 else _other_bytes(found, chance)
    return _other_bytes(seed, chance)


def _other_bytes(seed: bytes, chance: Random) -> bytes:
    """Up to six changes: cut, insert, overwrite, repeat, drop; rarely, something small thousands of times."""
    content = bytearray(seed)
    for _ in range(chance.choice((1, 1, 1, 2, 3, 6))):
        at = chance.randint(0, len(content))
        kind = chance.randrange(24)
        if kind < 3:
            del content[at:]
        elif kind < 8:
            content[at:at] = chance.choice(ODD_BYTES)
        elif kind < 12:
            odd = chance.choice(ODD_BYTES)
            content[at : at + len(odd)] = odd
        elif kind < 17:
            content[at : at + 1] = bytes([chance.randrange(256)])
        elif kind < 20:
            length = chance.randint(1, 64)
            content[at:at] = content[at : at + length] * chance.randint(1, 4)
        elif kind < 23 or chance.random() < 0.9:
            del content[at : at + chance.randint(1, 64)]
        else:
            length = chance.randint(1, 16)
            content[at:at] = (content[at : at + length] * 20000)[: 1 << chance.randint(10, 17)]
    return bytes(content)


def _other_values(seed: bytes, chance: Random) -> bytes | None:
    """A file whose JSON holds up to three other values; None where there is no JSON.

    It may be all of the file, one of its lines, or the header of a safetensors file.
    """
    if seed[8:9] == b"{":
        length = int.from_bytes(seed[:8], "little")
        header = _changed(seed[8 : 8 + length], chance)
        return None if header is None else len(header).to_bytes(8, "little") + header + seed[8 + length :]
    if seed[:1] not in (b"{", b"["):
        return None
    whole = _changed(seed, chance)
    if whole is not None:
        return whole
    lines = seed.split(b"\n")
    at = chance.randrange(len(lines))
    line = _changed(lines[at], chance)
    return None if line is None else b"\n".join([*lines[:at], line, *lines[at + 1 :]])


def _changed(content: bytes, chance: Random) -> bytes | None:
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        return None
    for _ in range(chance.randint(1, 3)):
        ways = _ways(value)
        if not ways:
            break
        parent, key = chance.choice(ways)
        if chance.randrange(6) == 0:
            del parent[key]
        else:
            parent[key] = copy.deepcopy(chance.choice(ODD_VALUES))  # a later change may be inside of it
    return json.dumps(value).encode()


def _ways(value: Any) -> list[tuple[Any, Any]]:
    """The places of all values inside of JSON; of long lists and objects those of the first few."""
    keys: list[Any] = list(value)[:40] if isinstance(value, dict) else []
    keys = list(range(min(len(value), 6))) if isinstance(value, list) else keys
    return [(value, key) for key in keys] + [way for key in keys for way in _ways(value[key])]
