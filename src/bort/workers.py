"""Where trials run: anything that maps a function over items as `map` does, side by side or one after another."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

Workers = Callable[[Callable[[Any], Any], Iterable[Any]], Iterable[Any]]
"""`map`, or what takes its place. Results come in the order of the items, and may be computed when asked for."""
