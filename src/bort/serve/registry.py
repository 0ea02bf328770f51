"""The models of a server by name, and how they are reloaded while it runs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from bort.errors import BortError, lines_of
from bort.serve.errors import Kind, Refused
from bort.serve.model import ServedModel

Load = Callable[[str, str], ServedModel]


def named(models: Sequence[str]) -> dict[str, str]:
    """Map names to folders, given as `NAME=FOLDER`, or as a folder or hub name whose last part is the name.

    What names an existing folder as a whole is one, even if it holds an equals sign.

    Raises:
        BortError: Two models have the same name, or one lacks its name or its folder.

    Example:
        >>> named(["runs/spam", "mood=runs/2024-11", "organisation/small-bert"])
        {'spam': 'runs/spam', 'mood': 'runs/2024-11', 'small-bert': 'organisation/small-bert'}
    """
    found: dict[str, str] = {}
    for model in models:
        name, equals, folder = model.partition("=")
        path = Path(model).expanduser()
        if not equals or "/" in name or path.is_dir():
            name, folder = (path.resolve() if path.exists() else path).name, model
        if not name or not folder:
            raise BortError("must be FOLDER or NAME=FOLDER", value=model)
        folder = str(Path(folder).expanduser()) if Path(folder).expanduser().exists() else folder
        if name in found:
            raise BortError("two models have this name; give them as NAME=FOLDER", value=name)
        found[name] = folder
    return found


class Registry:
    """Served models by name.

    Args:
        folders: Folders by name. The first answers requests that name no model.
        load: Loads a model, given its name and folder.

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
        """Names of the models, in the given order."""
        return list(self._models)

    def named(self, model: str | None) -> str | None:
        """The name of the model that a client calls by its name, its folder or its name on the hub; None if none is."""
        if model in self._models:
            return model
        return next((name for name, served in self._models.items() if served.folder == model), None)

    @property
    def healthy(self) -> bool:
        """Whether requests are accepted; each model has made a first prediction when it was loaded."""
        return not self.draining

    @property
    def at_work(self) -> bool:
        """Whether a closed model still computes, or one is being loaded."""
        return self._lock.locked() or any(model.batcher.alive for model in self._models.values())

    def get(self, name: str | None = None) -> ServedModel:
        """A model, by default the first.

        Raises:
            Refused: There is no model of this name.
        """
        model = self._models.get(self.default if name is None else name)
        if model is None:
            raise Refused(Kind.NOT_FOUND, f"no model {name!r}; there are: {', '.join(self._models)}")
        return model

    def reload(self, *, only_replaced: bool) -> list[tuple[str, str | None]]:
        """Reload models, and replace each old one once the new one has made a first prediction.

        The old model still answers the requests that it has accepted.

        Args:
            only_replaced: Skip models whose folder has not changed; each of its states is tried once.

        Returns:
            The names of the models tried, each with an error message or None. If loading fails, the old model stays.
        """
        tried: list[tuple[str, str | None]] = []
        with self._lock:
            for name, old in list(self._models.items()):
                if not old.replaced() and only_replaced:
                    continue
                try:
                    new = self._load(name, old.folder)
                except Exception as error:  # of any library that reads damaged files, or runs out of memory
                    tried.append((name, lines_of(error)[0]))
                    continue
                self._models[name] = new
                tried.append((name, None))
                old.close(0)
        return tried

    def close(self, seconds: float = 30.0) -> None:
        """Accept no more requests, and wait up to `seconds`, for all models together, to answer the accepted ones."""
        end = time.monotonic() + seconds
        for model in self._models.values():
            model.close(0)
        for model in self._models.values():
            model.close(max(0.0, end - time.monotonic()))
