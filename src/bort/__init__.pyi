"""The public names, for editors and type checkers; at run time each is imported on first use."""

from bort.cli.benchmark import BenchmarkArguments as BenchmarkArguments
from bort.cli.benchmark import benchmark as benchmark
from bort.cli.check import CheckArguments as CheckArguments
from bort.cli.check import check as check
from bort.cli.convert import ConvertArguments as ConvertArguments
from bort.cli.convert import convert as convert
from bort.cli.demo import DemoArguments as DemoArguments
from bort.cli.demo import demo as demo
from bort.cli.embed import EmbedArguments as EmbedArguments
from bort.cli.embed import embed as embed
from bort.cli.evaluate import EvaluateArguments as EvaluateArguments
from bort.cli.evaluate import evaluate as evaluate
from bort.cli.export import export as export
from bort.cli.extract import ExtractArguments as ExtractArguments
from bort.cli.extract import extract as extract
from bort.cli.finetune import FinetuneArguments as FinetuneArguments
from bort.cli.finetune import finetune as finetune
from bort.cli.index import IndexArguments as IndexArguments
from bort.cli.index import index as index
from bort.cli.info import InfoArguments as InfoArguments
from bort.cli.info import info as info
from bort.cli.predict import PredictArguments as PredictArguments
from bort.cli.predict import predict as predict
from bort.cli.pretrain import PretrainArguments as PretrainArguments
from bort.cli.pretrain import pretrain as pretrain
from bort.cli.results import EvaluateResult as EvaluateResult
from bort.cli.results import ExportResult as ExportResult
from bort.cli.results import ExtractResult as ExtractResult
from bort.cli.results import FiguresResult as FiguresResult
from bort.cli.results import FinetuneResult as FinetuneResult
from bort.cli.results import FolderResult as FolderResult
from bort.cli.results import PredictResult as PredictResult
from bort.cli.results import PretrainResult as PretrainResult
from bort.cli.serve import ServeArguments as ServeArguments
from bort.cli.serve import serve as serve
from bort.cli.shrink import ShrinkArguments as ShrinkArguments
from bort.cli.shrink import shrink as shrink
from bort.cli.submit import SubmitArguments as SubmitArguments
from bort.cli.submit import submit as submit
from bort.cli.suggest import SuggestArguments as SuggestArguments
from bort.cli.suggest import suggest as suggest
from bort.cli.tokenizer import TokenizerArguments as TokenizerArguments
from bort.cli.tokenizer import tokenizer as tokenizer
from bort.data.index.search import Index as Index
from bort.errors import BortError as BortError
from bort.estimators.classifier import BortClassifier as BortClassifier
from bort.estimators.fit_report import FitReport as FitReport
from bort.estimators.regressor import BortRegressor as BortRegressor
from bort.export.arguments import ExportArguments as ExportArguments
from bort.model.config import architecture as architecture
from bort.model.modelling import BortForMaskedLM as BortForMaskedLM
from bort.model.modelling import BortForMultipleChoice as BortForMultipleChoice
from bort.model.modelling import BortForSequenceClassification as BortForSequenceClassification
from bort.model.tokenization import load_tokenizer as load_tokenizer
from bort.predict.encoder import Encoder as Encoder
from bort.predict.predictor import Predictor as Predictor
from bort.progress import verbose as verbose

__version__: str

__all__ = [
    "BenchmarkArguments",
    "BortClassifier",
    "BortError",
    "BortForMaskedLM",
    "BortForMultipleChoice",
    "BortForSequenceClassification",
    "BortRegressor",
    "CheckArguments",
    "ConvertArguments",
    "DemoArguments",
    "EmbedArguments",
    "Encoder",
    "EvaluateArguments",
    "EvaluateResult",
    "ExportArguments",
    "ExportResult",
    "ExtractArguments",
    "ExtractResult",
    "FiguresResult",
    "FinetuneArguments",
    "FinetuneResult",
    "FitReport",
    "FolderResult",
    "Index",
    "IndexArguments",
    "InfoArguments",
    "PredictArguments",
    "PredictResult",
    "Predictor",
    "PretrainArguments",
    "PretrainResult",
    "ServeArguments",
    "ShrinkArguments",
    "SubmitArguments",
    "SuggestArguments",
    "TokenizerArguments",
    "__version__",
    "architecture",
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
    "load_tokenizer",
    "predict",
    "pretrain",
    "serve",
    "shrink",
    "submit",
    "suggest",
    "tokenizer",
    "verbose",
]
