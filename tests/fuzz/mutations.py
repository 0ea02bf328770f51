"""Damage to valid files, as hypothesis strategies: bytes that change, and JSON whose values do."""

from __future__ import annotations

import copy
import json
from typing import Any

from hypothesis import strategies as st

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


@st.composite
def damaged(draw: st.DrawFn, seed: bytes) -> bytes:
    """A file with up to six changes: cut, insert, overwrite, repeat, drop."""
    content = bytearray(seed)
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, len(content)))
        kind = draw(st.integers(0, 5))
        if kind == 0:
            del content[at:]
        elif kind == 1:
            content[at:at] = draw(st.sampled_from(ODD_BYTES))
        elif kind == 2:
            odd = draw(st.sampled_from(ODD_BYTES))
            content[at : at + len(odd)] = odd
        elif kind == 3:
            content[at : at + 1] = bytes([draw(st.integers(0, 255))])
        elif kind == 4:
            length = draw(st.integers(1, 64))
            content[at:at] = content[at : at + length] * draw(st.integers(1, 4))
        else:
            del content[at : at + draw(st.integers(1, 64))]
    return bytes(content)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Ways to all values inside of JSON; of long lists and objects to the first few."""
    found = [path] if path else []
    inner: Any = ()
    if isinstance(value, dict):
        inner = list(value.items())[:40]
    elif isinstance(value, list):
        inner = list(enumerate(value))[:6]
    for key, one in inner:
        found += places(one, (*path, key))
    return found


def damaged_json(seed: bytes) -> st.SearchStrategy[bytes]:
    """JSON with up to three values that are others or gone; one in four times its bytes change."""
    whole = json.loads(seed)
    ways = places(whole)

    @st.composite
    def changed(draw: st.DrawFn) -> bytes:
        value = copy.deepcopy(whole)
        for _ in range(draw(st.integers(1, 3))):
            *way, last = draw(st.sampled_from(ways))
            parent = value
            try:
                for key in way:
                    parent = parent[key]
                if draw(st.integers(0, 5)) == 0:
                    del parent[last]
                else:
                    parent[last] = copy.deepcopy(
                        draw(st.sampled_from(ODD_VALUES))
                    )  # a later change may be inside of it
            except (KeyError, IndexError, TypeError):
                continue  # an earlier change took it away
        return json.dumps(value).encode("utf-8", "replace")

    return st.one_of(changed(), changed(), changed(), damaged(seed))
