"""A folder of `bort export`, whatever runs it: neither torch nor transformers is loaded, nor any code that it holds."""

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

from bort.cores import limit_threads
from bort.data.tables.examples import Example
from bort.errors import BortError
from bort.model.tokenization import panics_are_errors, try_out
from bort.predict.batching import Batch, Group, plan, rounded_up
from bort.predict.costs import MOST_TOKENS, usual_costs
from bort.predict.encoding import Feed, TokenizedExamples, prepare, prompted, tokenize
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
    """A call in another thread, begun at once."""

    def __init__(self, call: Callable[[], None]) -> None:
        super().__init__(daemon=False)  # Python's end waits for it: it may be inside a library that cannot be left
        self._call = call
        self.error: BaseException | None = None
        self.start()

    def run(self) -> None:
        """What the thread does."""
        try:
            self._call()
        except BaseException as error:  # raised where it is waited for
            self.error = error


class ExportedEngine:
    """A model of `bort export`; several threads may share it.

    A folder holds one graph, or two: then each text is computed by the graph that is faster for its length, so that its
    answer does not depend on its company. In int8 rounding would carry the least difference in an input's surroundings
    into its answer: there rows go together only where they are equally long, or were padded to the same length, which
    depends on each row alone. Where scales are taken from what is computed ("dynamic"), each row is computed alone.

    Args:
        folder: What `bort export` wrote.
        manifest: Of that folder.
        threads: Of the computation and the tokenizer; by default one a core.
        weight_bits: Of int8 weights, 7 or 8; by default what this processor multiplies exactly.

    Raises:
        BortError: A file is not what was exported, or the engine is not installed.
    """

    def __init__(
        self, folder: Path, manifest: Manifest, threads: int | None = None, *, weight_bits: int | None = None
    ) -> None:
        self.manifest, self.folder = manifest, folder
        self.max_length, self.cast = manifest.max_length, manifest.cast
        self.outputs = manifest.outputs
        self.pairs, self.thresholds = manifest.pairs, manifest.thresholds
        if threads is not None:
            limit_threads(threads)
        self.runners = [self._runner(spec, threads) for spec in manifest.graphs]
        """What computes each of the manifest's graphs."""
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
            if loading.error is not None:  # it says more than what a damaged tokenizer does
                raise loading.error from None
        split = manifest.split_special_tokens
        prepare(self.tokenizer, self.max_length, manifest.truncation_side, split_special_tokens=split)
        self._takes_types = "token_type_ids" in manifest.inputs

    @property
    def task(self) -> Task:
        """What the model answers.

        Raises:
            BortError: It is an encoder.
        """
        if self.manifest.task is None:
            rule = "is an encoder: it gives vectors (bort embed) and no answers; fine-tune what it was exported from"
            raise BortError(rule, file=self.folder)
        return self.manifest.task

    @property
    def spec(self) -> EncoderSpec:
        """How the model makes a vector.

        Raises:
            BortError: It is no encoder.
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
        """How an encoder makes one vector of its tokens'."""
        return self.spec.pooling

    @property
    def normalizes(self) -> bool:
        """Whether an encoder's vectors are scaled to length 1 unless something else is asked for."""
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
        except Exception as error:  # the library has no class of its own
            file = self.folder / self.manifest.tokenizer
            raise BortError(f"is no tokenizer: {str(error)[:200]}", file=file) from None

    def _check_and_load(self) -> None:
        """Check all files, and load the first graph; a second one is loaded when a text asks for it."""
        self.manifest.check(self.folder)
        self.runners[0].opened(shared=True)

    def encode(self, examples: Sequence[Example], *, windows: bool = False) -> TokenizedExamples:
        """Tokenise; many at once in the library's threads, which leave Python free.

        Raises:
            BortError: The examples have different numbers of choices, or an encoder is given a pair.
        """
        if (spec := self.manifest.encoder) is not None:
            examples = prompted(examples, spec.prompt, lowercase=spec.lowercase)
        return tokenize(examples, self.tokenizer, types=self._takes_types, windows=windows)

    def batch(self, encoded: TokenizedExamples, indices: Sequence[int], length: int = 0) -> Feed:
        """Some examples as the model takes them, each choice a row, padded to the longest, or to `length`.

        *Shape:* each (rows, length).
        """
        batch = encoded.batch(indices, self.manifest.pad_token_id, length)
        return {name: values.reshape(-1, values.shape[-1]) for name, values in batch.items()}

    def run(self, encoded: TokenizedExamples) -> NDArray[np.float32]:
        """Raw outputs. *Shape:* (examples, outputs), or (examples, choices)."""
        return self.start(encoded)()

    def start(self, encoded: TokenizedExamples) -> Callable[[], NDArray[np.float32]]:
        """Begin to compute, in threads of the engine's own where several work on batches of their own.

        Returns:
            What waits for the raw outputs, as `run` gives them.
        """
        rows = TokenizedExamples(encoded.columns, encoded.cut)  # a model that chooses scores one choice a row
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
                    batch = left.popleft()  # a single step in Python: each batch is taken once
                except IndexError:
                    return
                compute(batch)

        helpers: list[Future[None]] = []
        if not planned.shared:
            # The caller is one of the threads: one that only waited would take a core from them at every answer.
            helpers = [self.pool.submit(work) for _ in range(min(self.threads, len(left)) - 1)]

        def finish() -> NDArray[np.float32]:
            try:
                work()
                for helper in helpers:
                    if not helper.cancel():  # one that has not begun, behind another caller's work, has nothing to do
                        helper.result()
            finally:
                left.clear()
            return outputs.reshape(-1, encoded.choices) if encoded.choices else outputs

        return finish

    @property
    def pool(self) -> ThreadPoolExecutor:
        """Threads of which each computes batches of its own, beside the caller."""
        with self._making:  # of several callers one makes it
            return self._made_pool

    @cached_property
    def _made_pool(self) -> ThreadPoolExecutor:
        from concurrent.futures import ThreadPoolExecutor  # a single text does without

        return ThreadPoolExecutor(max(1, self.threads - 1), thread_name_prefix="bort")

    def _groups(self, lengths: Sequence[int]) -> list[Group]:
        """The rows by the graph that computes them."""
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
