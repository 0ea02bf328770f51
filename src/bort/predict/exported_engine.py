"""Run a folder of `bort export`, without torch and transformers, and without executing code from the folder."""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import cached_property
from pathlib import Path
from threading import Lock, Thread
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bort.cores import limit_tokenizer_threads
from bort.data.tables.examples import Example
from bort.errors import BortError
from bort.model.tokenization import panics_are_errors, try_out
from bort.predict.batching import Batch, Group, plan, rounded_up
from bort.predict.costs import MOST_TOKENS, usual_costs
from bort.predict.encoding import Feed, TokenizedExamples, lowercase_first, prepare, prompted, tokenize, whole_lengths
from bort.predict.graph_spec import GraphSpec
from bort.predict.manifest import EncoderSpec, Manifest
from bort.predict.onnx_runner import OnnxRunner
from bort.predict.openvino_runner import OpenVinoRunner
from bort.predict.runner import Runner
from bort.tasks.task import Task

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

_ROWS_PER_THREAD, _LEAST_ROWS = 128, 256


class _Meanwhile(Thread):
    """A call that starts in another thread at once."""

    def __init__(self, call: Callable[[], None]) -> None:
        super().__init__(daemon=False)  # Python's exit must wait for it: native code cannot be interrupted
        self._call = call
        self.error: BaseException | None = None
        self.start()

    def run(self) -> None:
        """Make the call, and keep its exception."""
        try:
            self._call()
        except BaseException as error:  # raised by the thread that joins
            self.error = error


class ExportedEngine:
    """A model of `bort export`; several threads may share it.

    A folder holds one or two graphs. With two, the length of a text selects the faster graph, so a text's answer does
    not depend on the rest of the batch. In int8, rounding can amplify the smallest numerical difference. Int8 batches
    therefore hold only rows of equal length, or padded to the same length, which depends on each row alone. With
    "dynamic" activation scales, which depend on the batch, each row is computed alone.

    Args:
        folder: Folder that `bort export` wrote.
        manifest: Manifest of that folder.
        threads: Threads for the computation and the tokenizer; by default one per core.
        weight_bits: Bits of int8 weights, 7 or 8; by default the most that this processor multiplies exactly.

    Raises:
        BortError: A file has changed since the export, or the engine is not installed.
    """

    def __init__(
        self, folder: Path, manifest: Manifest, threads: int | None = None, *, weight_bits: int | None = None
    ) -> None:
        self.manifest, self.folder = manifest, folder
        self.max_length, self.cast = manifest.max_length, manifest.cast
        self.outputs = manifest.outputs
        self.pairs, self.thresholds = manifest.pairs, manifest.thresholds
        if threads is not None:
            limit_tokenizer_threads(threads)
        self.runners = [self._runner(spec, threads) for spec in manifest.graphs]
        """Runners of the manifest's graphs."""
        for runner in self.runners:
            runner.weight_bits = weight_bits or runner.weight_bits
        self.threads = self.runners[0].threads
        self.rows_at_once = max(_LEAST_ROWS, _ROWS_PER_THREAD * self.threads)
        self._making = Lock()
        loading = _Meanwhile(self._check_and_load)
        try:
            self.tokenizer = self._open_tokenizer()
        finally:
            loading.join()
            if loading.error is not None:  # more informative than the error of a damaged tokenizer
                raise loading.error from None
        split = manifest.split_special_tokens
        prepare(self.tokenizer, self.max_length, manifest.truncation_side, split_special_tokens=split)
        if manifest.encoder is not None and manifest.encoder.lowercase:
            lowercase_first(self.tokenizer)
        self._takes_types = "token_type_ids" in manifest.inputs

    @property
    def task(self) -> Task:
        """The model's task.

        Raises:
            BortError: The model is an encoder.
        """
        if self.manifest.task is None:
            rule = "is an encoder: it gives vectors (bort embed) and no answers; fine-tune what it was exported from"
            raise BortError(rule, file=self.folder)
        return self.manifest.task

    @property
    def spec(self) -> EncoderSpec:
        """How the encoder makes a vector.

        Raises:
            BortError: The model is not an encoder.
        """
        if self.manifest.encoder is None:
            raise BortError("is an exported classifier or regressor, and gives no vectors", file=self.folder)
        return self.manifest.encoder

    @property
    def size(self) -> int:
        """Width of an encoder's vector."""
        return self.spec.size

    @property
    def pooling(self) -> str:
        """How an encoder pools its token vectors."""
        return self.spec.pooling

    @property
    def normalizes(self) -> bool:
        """Whether an encoder's vectors are scaled to length 1 by default."""
        return self.spec.normalizes

    def _runner(self, spec: GraphSpec, threads: int | None) -> Runner:
        if spec.engine == "onnxruntime":
            return OnnxRunner(self.folder, self.manifest, spec, threads)
        if spec.engine == "openvino":
            return OpenVinoRunner(self.folder, self.manifest, spec, threads)
        raise BortError("is an engine that this version lacks", file=self.folder, value=spec.engine)

    def _open_tokenizer(self) -> Any:
        from tokenizers import Tokenizer

        try:
            with panics_are_errors():
                tokenizer = Tokenizer.from_buffer(self.manifest.checked(self.folder, self.manifest.tokenizer))
            try_out(tokenizer)
            return tokenizer
        except BortError:
            raise
        except Exception as error:  # the library has no exception class of its own
            file = self.folder / self.manifest.tokenizer
            raise BortError(f"is no tokenizer: {str(error)[:200]}", file=file) from None

    def _check_and_load(self) -> None:
        """Check all files, and load the first graph; the second is loaded when a text first needs it."""
        self.manifest.check(self.folder)
        self.runners[0].opened(shared=True)

    def open_all(self) -> None:
        """Load now what is otherwise loaded when a text first needs it, so that the folder may then be replaced.

        Raises:
            BortError: See `Runner.opened`.
        """
        for runner in self.runners:
            for shared in (True, False):
                runner.opened(shared=shared)

    def encode(self, examples: Sequence[Example], *, windows: bool = False) -> TokenizedExamples:
        """Tokenise; several texts at once in the library's threads, which release the GIL.

        Raises:
            BortError: The examples have different numbers of choices, or an encoder gets a pair.
        """
        if (spec := self.manifest.encoder) is not None:
            examples = prompted(examples, spec.prompt)
        return tokenize(examples, self.tokenizer, types=self._takes_types, windows=windows)

    def whole_lengths(self, examples: Sequence[Example]) -> list[int]:
        """Number of tokens that an encoder's texts have before they are truncated.

        Raises:
            BortError: An example is a pair.
        """
        return whole_lengths(prompted(examples, self.spec.prompt), self.tokenizer)

    def batch(self, encoded: TokenizedExamples, indices: Sequence[int], length: int = 0) -> Feed:
        """Model inputs for some examples, one row per choice, padded to the longest or to `length`.

        *Shape:* each (rows, length).
        """
        batch = encoded.batch(indices, self.manifest.pad_token_id, length)
        return {name: values.reshape(-1, values.shape[-1]) for name, values in batch.items()}

    def run(self, encoded: TokenizedExamples) -> NDArray[np.float32]:
        """Raw outputs. *Shape:* (examples, outputs), or (examples, choices)."""
        return self.start(encoded)()

    def start(self, encoded: TokenizedExamples) -> Callable[[], NDArray[np.float32]]:
        """Start computing, in the engine's thread pool if each thread computes its own batches.

        Returns:
            A function that computes what is left, waits, and returns the raw outputs, as `run` does.
        """
        rows = TokenizedExamples(encoded.columns)  # a multiple choice model scores one choice per row
        outputs = np.empty((len(rows), self.outputs), np.float32)
        planned = plan(self._groups(rows.lengths), self.threads)

        def compute(batch: Batch) -> None:
            runner = self.runners[batch.graph]
            feed = self.batch(rows, batch.places, batch.length)
            outputs[batch.places] = runner.opened(shared=planned.shared)(feed)

        left = deque(planned.batches)

        def work() -> None:
            while True:
                try:
                    batch = left.popleft()  # atomic: each batch is taken once
                except IndexError:
                    return
                compute(batch)

        helpers: list[Future[None]] = []
        if not planned.shared:
            # The calling thread computes, too: if it only waited, it would take a core from the others at each result.
            helpers = [self.pool.submit(work) for _ in range(min(self.threads, len(left)) - 1)]

        def finish() -> NDArray[np.float32]:
            try:
                work()
                for helper in helpers:
                    if not helper.cancel():  # one still queued behind another caller's work has nothing left to do
                        helper.result()
            finally:
                left.clear()
            return outputs.reshape(-1, encoded.choices) if encoded.choices else outputs

        return finish

    @property
    def pool(self) -> ThreadPoolExecutor:
        """Thread pool in which each thread computes its own batches, in addition to the caller."""
        with self._making:  # only one of several callers creates it
            return self._made_pool

    @cached_property
    def _made_pool(self) -> ThreadPoolExecutor:
        from concurrent.futures import ThreadPoolExecutor  # not needed for a single text

        return ThreadPoolExecutor(max(1, self.threads - 1), thread_name_prefix="bort")

    def _groups(self, lengths: Sequence[int]) -> list[Group]:
        """Group the rows by the graph that computes them."""
        starts = [spec.from_tokens for spec in self.manifest.graphs]
        by_graph: list[list[int]] = [[] for _ in starts]
        for place, length in enumerate(lengths):
            by_graph[bisect_right(starts, length) - 1].append(place)
        return [self._group(graph, places, lengths) for graph, places in enumerate(by_graph) if places]

    def _group(self, graph: int, places: Sequence[int], lengths: Sequence[int]) -> Group:
        spec, runner = self.manifest.graphs[graph], self.runners[graph]
        dynamic, int8 = spec.activations == "dynamic", spec.precision == "int8"
        padded = [lengths[place] for place in places]
        if runner.rounds_lengths and not dynamic:
            padded = [rounded_up(length, self.max_length) for length in padded]
        costs = spec.costs or usual_costs(self.max_length)
        return Group(graph, places, padded, costs, equal_lengths=int8, max_tokens=1 if dynamic else MOST_TOKENS)
