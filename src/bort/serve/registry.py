"""The models of a server by name, and their replacement while it runs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from bort.errors import BortError
from bort.serve.errors import Kind, Refused
from bort.serve.model import ServedModel

Load = Callable[[str, str], ServedModel]


def named(models: Sequence[str]) -> dict[str, str]:
    """Folders by name: `NAME=FOLDER`, or the folder's own name.

    Raises:
        BortError: Two models have one name.

    Example:
        >>> named(["runs/spam", "mood=runs/2024-11"])
        {'spam': 'runs/spam', 'mood': 'runs/2024-11'}
    """
    found: dict[str, str] = {}
    for model in models:
        name, equals, folder = model.partition("=")
        if not equals or "/" in name:
            name, folder = Path(model).expanduser().resolve().name if Path(model).exists() else model, model
        folder = str(Path(folder).expanduser()) if Path(folder).expanduser().exists() else folder
        if name in found:
            raise BortError("two models have this name; give them as NAME=FOLDER", column="model", value=name)
        found[name] = folder
    return found


class Registry:
    """Served models by name.

    Args:
        folders: By name. The first is the one that a request without a name is for.
        load: Loads a model of a name and a folder.

    Raises:
        BortError: A model cannot be loaded.
    """

    def __init__(self, folders: dict[str, str], load: Load) -> None:
        self._load, self._lock = load, threading.Lock()
        self._models = {name: load(name, folder) for name, folder in folders.items()}
        self.default = next(iter(folders))
        self.draining = False

    @property
    def names(self) -> list[str]:
        """In the order in which they were given."""
        return list(self._models)

    @property
    def healthy(self) -> bool:
        """Whether requests are taken; models have answered once when they are loaded."""
        return not self.draining

    def get(self, name: str | None = None) -> ServedModel:
        """A model, by default the first.

        Raises:
            Refused: There is none of this name.
        """
        model = self._models.get(self.default if name is None else name)
        if model is None:
            raise Refused(Kind.NOT_FOUND, f"no model {name!r}; there are: {', '.join(self._models)}")
        return model

    def reload(self, *, only_replaced: bool) -> list[tuple[str, str | None]]:
        """Load models anew beside the old ones, and swap each when it has answered once.

        A request that the old model has accepted is answered by it.

        Args:
            only_replaced: Leave alone a model whose folder is as it was.

        Returns:
            The models tried, each with what went wrong or None. A model that cannot be loaded is not swapped.
        """
        tried: list[tuple[str, str | None]] = []
        with self._lock:
            for name, old in list(self._models.items()):
                if only_replaced and not old.replaced():
                    continue
                try:
                    new = self._load(name, old.folder)
                except (BortError, OSError) as error:
                    tried.append((name, str(error)))
                    continue
                self._models[name] = new
                tried.append((name, None))
                threading.Thread(target=old.close, daemon=True).start()
        return tried

    def close(self) -> None:
        """Answer what was accepted, and end."""
        for model in self._models.values():
            model.close()
