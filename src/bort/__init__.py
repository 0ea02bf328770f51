"""bort: the open Bort system - a small, fast text classifier from few labels.

Each command is a function that takes one dataclass of arguments, in Python and on the command line alike, and returns
a frozen result:

    import bort
    result = bort.finetune(bort.FinetuneArguments(train="train.csv", dev="dev.csv", model="bort-nano", out="runs/mine"))
    result.scores["dev"]["accuracy"].value

It prints nothing, except inside `with bort.verbose():`, where it prints what the command line prints.
`bort.BortClassifier` is a scikit-learn estimator.

Names are imported lazily, on first use, so `import bort` is fast.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    **{
        name: ("bort.cli." + name, name)
        for name in (
            "benchmark",
            "check",
            "convert",
            "demo",
            "embed",
            "evaluate",
            "export",
            "extract",
            "finetune",
            "index",
            "info",
            "predict",
            "pretrain",
            "serve",
            "shrink",
            "submit",
            "suggest",
            "tokenizer",
        )
    },
    "BenchmarkArguments": ("bort.cli.benchmark", "BenchmarkArguments"),
    "CheckArguments": ("bort.cli.check", "CheckArguments"),
    "ConvertArguments": ("bort.cli.convert", "ConvertArguments"),
    "DemoArguments": ("bort.cli.demo", "DemoArguments"),
    "EmbedArguments": ("bort.cli.embed", "EmbedArguments"),
    "EvaluateArguments": ("bort.cli.evaluate", "EvaluateArguments"),
    "ExportArguments": ("bort.export.arguments", "ExportArguments"),
    "ExtractArguments": ("bort.cli.extract", "ExtractArguments"),
    "FinetuneArguments": ("bort.cli.finetune", "FinetuneArguments"),
    "IndexArguments": ("bort.cli.index", "IndexArguments"),
    "InfoArguments": ("bort.cli.info", "InfoArguments"),
    "PredictArguments": ("bort.cli.predict", "PredictArguments"),
    "PretrainArguments": ("bort.cli.pretrain", "PretrainArguments"),
    "ServeArguments": ("bort.cli.serve", "ServeArguments"),
    "ShrinkArguments": ("bort.cli.shrink", "ShrinkArguments"),
    "SubmitArguments": ("bort.cli.submit", "SubmitArguments"),
    "SuggestArguments": ("bort.cli.suggest", "SuggestArguments"),
    "TokenizerArguments": ("bort.cli.tokenizer", "TokenizerArguments"),
    "BortClassifier": ("bort.estimators.classifier", "BortClassifier"),
    **{
        name: ("bort.cli.results", name)
        for name in (
            "EvaluateResult",
            "ExportResult",
            "ExtractResult",
            "FiguresResult",
            "FinetuneResult",
            "FolderResult",
            "PredictResult",
            "PretrainResult",
        )
    },
    "BortError": ("bort.errors", "BortError"),
    "BortForMaskedLM": ("bort.model.modelling", "BortForMaskedLM"),
    "BortForMultipleChoice": ("bort.model.modelling", "BortForMultipleChoice"),
    "BortForSequenceClassification": ("bort.model.modelling", "BortForSequenceClassification"),
    "Encoder": ("bort.predict.encoder", "Encoder"),
    "Index": ("bort.data.index.search", "Index"),
    "BortRegressor": ("bort.estimators.regressor", "BortRegressor"),
    "FitReport": ("bort.estimators.fit_report", "FitReport"),
    "Predictor": ("bort.predict.predictor", "Predictor"),
    "architecture": ("bort.model.config", "architecture"),
    "load_tokenizer": ("bort.model.tokenization", "load_tokenizer"),
    "verbose": ("bort.progress", "verbose"),
}

__all__ = ["__version__", *sorted(_PUBLIC)]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'bort' has no attribute {name!r}")
    import importlib

    module, attribute = _PUBLIC[name]
    return getattr(importlib.import_module(module), attribute)


def __dir__() -> list[str]:
    return sorted([*globals(), *_PUBLIC])


class _Package(ModuleType):
    """Keeps `bort.predict` the command: importing the package `bort/predict` would otherwise overwrite the name."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _PUBLIC and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
