"""Figures for README and docs, as paragraphs and tables made of the results."""

from __future__ import annotations

import re
import statistics
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from benchmarks.common import WEIGHTS, table
from benchmarks.quality.few_labels import (
    AGORA,
    ALONE,
    DISTILLED,
    HEAD,
    PLAIN,
    SEEDLESS,
    SETFIT,
    STATIC,
    TEACHER,
    TFIDF,
)
from benchmarks.quality.general_pool import BY_CHANCE, GENERAL
from benchmarks.quality.ose import NANO as NANO_SHAPE
from benchmarks.quality.ose import axes, told
from benchmarks.quality.rivals import difference, overall, percent, seeds_of, seeds_told
from benchmarks.quality.scarce import TASKS
from benchmarks.speed.serving import SERVERS
from bort.ose.space import SPACES

if TYPE_CHECKING:
    from benchmarks.pages import Result

Results = Mapping[str, "Result"]
BLOCKS: dict[str, Callable[[Results], str]] = {}
NANO, MINILM = "bort-nano", "all-MiniLM-L6-v2"


def named_in(text: str) -> list[str]:
    """The blocks that a document asks for, in their order."""
    return re.findall(r"<!-- BEGIN figures ([\w-]+) -->", text)


def made(name: str, results: Results) -> str:
    """A block's Markdown.

    Raises:
        KeyError: There is no such block.
    """
    return BLOCKS[name](results)


def _block(name: str) -> Callable[[Callable[[Results], str]], Callable[[Results], str]]:
    def keep(function: Callable[[Results], str]) -> Callable[[Results], str]:
        BLOCKS[name] = function
        return function

    return keep


def _wrapped(*paragraphs: str) -> str:
    return "\n\n".join(
        p if p.startswith("|") else textwrap.fill(" ".join(p.split()), 118, break_on_hyphens=False) for p in paragraphs
    )


def _measured(result: Result) -> str:
    """When and where, and whether the code has changed since."""
    record = result.record
    changed = [name for name, has in (("the code", result.stale), ("bort-nano", result.changed([WEIGHTS]))) if has]
    since = f"; {' and '.join(changed)} {'have' if len(changed) > 1 else 'has'} changed since" if changed else ""
    return f"Measured {record['date']} on {record['cores']} cores of an {record['processor']}{since}."


def _pair(points: tuple[float, float | None]) -> str:
    value, error = points
    return f"{value:.1f}" if error is None else f"{value:.1f} ± {error:.1f}"


@_block("few-labels")
def few_labels(results: Results) -> str:
    """Methods with the same labels on five tasks, and what the differences are worth."""
    figures, settings = results["few_labels"].record["figures"], results["few_labels"].record["settings"]
    tests = {(row["student"], row["method"]): row["test"] for row in figures["rows"]}
    shown = {
        "TF-IDF + logistic regression": ("", TFIDF),
        "model2vec with its own classifier": ("all-mpnet-base-v2", STATIC),
        "bort-nano, linear head": (NANO, HEAD),
        "bort-nano, plain fine-tuning": (NANO, PLAIN),
        "bort-nano, plain distillation": (NANO, DISTILLED),
        "**bort-nano, Agora**": (NANO, AGORA),
        "MiniLM-L6, linear head": (MINILM, HEAD),
        "SetFit with MiniLM-L6": (MINILM, SETFIT),
        "**MiniLM-L6, Agora**": (MINILM, AGORA),
        "its teacher, all-mpnet-base-v2 with a linear head": ("", TEACHER),
    }
    tasks = settings["tasks"]
    rows = []
    for name, key in shown.items():
        if (test := tests.get(key)) is not None:
            ms = figures["milliseconds"].get(key[0])
            rows.append(
                [
                    name,
                    *(percent(test[task]) if task in test else "" for task in tasks),
                    f"{overall(test):.1f}" if {*test} == {*tasks} else "",
                    f"{ms:.1f}" if ms else "",
                ]
            )
    labels = {task: sum(figures["sizes"][task][part] for part in ("train", "dev")) for task in tasks}
    head = ["test score in %", *(f"{task} ({labels[task]})" for task in tasks), "mean", "ms a text"]
    differences = {
        other: _pair(difference(tests[NANO, AGORA], tests[NANO, other])) for other in (HEAD, PLAIN, DISTILLED)
    }
    counts = {
        name.strip("*"): seeds_of(tests[key]) for name, key in shown.items() if key in tests and key[1] not in SEEDLESS
    }
    missing = [task for task in TASKS if task not in tasks]
    left = f"Not measured yet: {', '.join(missing)}. " if missing else ""
    return _wrapped(
        table(head, rows),
        f"""
        Same labels for all, as many as in brackets; Agora and distillation also use unlabelled texts.
        {seeds_told(counts)}; linear heads and TF-IDF need none. With bort-nano, Agora is
        {differences[HEAD]} points above the linear head, {differences[PLAIN]} above plain fine-tuning, and
        {differences[DISTILLED]} above plain distillation. {left}{_measured(results["few_labels"])}
        """,
    )


@_block("speed")
def speed(results: Results) -> str:
    """Exported models beside the usual ones."""
    rows = {(r["model"], r["engine"], r["load"]): r for r in results["inference"].record["figures"]["results"]}
    shown = (
        ("BERT-base, PyTorch", "bert-base", "torch-eager"),
        ("MiniLM-L6, ONNX Runtime int8", "minilm-l6", "onnxruntime-int8"),
        ("`bort`, ONNX Runtime int8", "bort", "onnxruntime-int8"),
        ("bort-nano, ONNX Runtime fp32", "bort-nano", "onnxruntime-fp32"),
        ("**bort-nano, ONNX Runtime int8**", "bort-nano", "onnxruntime-int8"),
    )
    cells = []
    for name, model, engine in shown:
        ms = [rows[model, engine, load]["ms"]["median"] for load in ("16 tokens", "128 tokens")]
        rate = rows[model, engine, "256 texts"]["tokens_per_second"]
        cells.append([name, *(f"{value:,.0f}" if value >= 100 else f"{value:.3g}" for value in ms), f"{rate:,.0f}"])
    first = {(r["model"], r["engine"]): r for r in results["first_answer"].record["figures"]["first_answers"]}
    start = first["bort-nano", "onnxruntime-int8"]
    return _wrapped(
        table(["2 threads", "ms, 16 tokens", "ms, 128 tokens", "tokens/s in batches"], cells),
        f"""
        A new process gives its first answer with bort-nano in int8 after {start["seconds"]["median"]:.2f} s and takes
        {start["megabytes"]:.0f} MB. {_measured(results["inference"])}
        """,
    )


@_block("serving")
def serving(results: Results) -> str:
    """Latency and throughput over HTTP, beside what one would write instead."""
    result = results["serving"]
    rows = []
    for model, of in result.record["figures"]["models"].items():
        for server, name in SERVERS.items():
            if server not in of["servers"]:
                continue
            middle = {
                (clients, what): statistics.median(load[what] for load in loads)
                for clients, loads in of["servers"][server].items()
                for what in ("texts_per_s", "p50", "p99")
            }
            lone = [f"{middle['1', what]:.1f}" for what in ("p50", "p99")]
            busy = [f"{middle['64', what]:,.0f}" for what in ("texts_per_s", "p99")]
            rows.append([f"{model}, {name}", *lone, *busy])
    head = ["", "one client: p50 ms", "p99 ms", "64 clients: texts/s", "p99 ms"]
    return _wrapped(
        table(head, rows),
        f"""
        Models are in int8, except with `transformers.pipeline`, which runs fp32. Requests hold one text. The server has
        one core, and the clients have another. [All figures](../benchmarks/results/speed.md). {_measured(result)}
        """,
    )


@_block("agora-time")
def agora_time(results: Results) -> str:
    """How long a run takes."""
    runs = results["agora_run"].record["figures"]["runs"]["local"]
    minutes = [run["minutes"] for run in runs]
    accuracy = {part: 100 * statistics.mean(run[part] for run in runs) for part in ("plain", "test")}
    spread = f"{min(minutes):.1f} to {max(minutes):.1f} in {len(runs)} seeds" if len(runs) > 1 else "one seed"
    return _wrapped(
        f"""
        On sst2 with the default grid, 100 labels, 2,000 unlabelled texts and all-mpnet-base-v2 as the teacher, a run of
        bort-nano takes {statistics.median(minutes):.1f} minutes ({spread}). Plain fine-tuning scores
        {accuracy["plain"]:.1f} %, Agora {accuracy["test"]:.1f} %.
        {_measured(results["agora_run"])}
        """
    )


@_block("workers")
def workers(results: Results) -> str:
    """Two Ray workers against one process."""
    result = results["workers"]
    rows = []
    for name, kinds in result.record["figures"].items():
        here, ray = (statistics.median(run["wall"] for run in kinds[kind]) for kind in ("here", "ray"))
        gaps = [gap for run in kinds["ray"] for gap in run["gaps"]]
        rows.append([name, f"{here:.0f}", f"{ray:.0f}", f"{here / 2 / ray:.2f}", f"{1000 * statistics.mean(gaps):.0f}"])
    head = ["", "one process, s", "two workers, s", "efficiency", "between two trials of a worker, ms"]
    starts = [run["start"] for kinds in result.record["figures"].values() for run in kinds["ray"]]
    return _wrapped(
        table(head, rows),
        f"""
        Both give the same results. Efficiency is the time of one process divided by twice that of two workers. Most of
        the loss is the workers' start, {statistics.mean(starts):.0f} s, which matters less in longer trials. Runs of
        each: {result.record["settings"]["rounds"]}. {_measured(result)}
        """,
    )


@_block("tokenising")
def tokenising(results: Results) -> str:
    """Memory and speed of tokenising."""
    figures = results["tokenising_memory"].record["figures"]
    large = [figures[f"[2000, {processes}]"] for processes in (1, 2)]
    small = [figures[f"[200, {processes}]"] for processes in (1, 2)]
    growth = [b["peak_bytes"] / a["peak_bytes"] for a, b in zip(small, large, strict=True)]
    mib = [each["peak_bytes"] / 2**20 for each in large]
    rates = [each["bytes"] / 1e6 / each["seconds"] for each in large]
    return _wrapped(
        f"""
        Tokenising 2 GB of text takes {max(growth):.2f} times the memory of 200 MB: {mib[0]:.0f} MiB in one process,
        {mib[1]:.0f} MiB in two. One process, whose tokenizer is multi-threaded, reads {rates[0]:.1f} MB/s, and two read
        {rates[1]:.1f} MB/s. One run. {_measured(results["tokenising_memory"])}
        """
    )


@_block("general-pool")
def general_pool(results: Results) -> str:
    """What texts chosen from a general pool bring."""
    result = results["general_pool"]
    figures, settings = result.record["figures"], result.record["settings"]
    tests = {row["method"]: row["test"] for row in figures["rows"]}
    best, found = max((tests[name] for name in (PLAIN, ALONE)), key=overall), tests[GENERAL]
    (points, error), target = difference(found, best), result.shown.targets[0]
    gain = f"{_pair((abs(points), error))} points {'more' if points >= 0 else 'less'}"
    by_task = {task: difference({task: found[task]}, {task: best[task]})[0] for task in settings["tasks"]}
    seeds = seeds_of(found)
    return _wrapped(
        f"""
        With a pool of {figures["texts"]:,} {settings["pool_name"]}, bort-nano by Agora scores {gain} than the
        best method without a pool, in the mean of {len(by_task)} tasks
        ({", ".join(f"{task} {points:+.1f}" for task, points in by_task.items())}); the target of {target.bound:g} is
        {"met" if target.met else "missed"}. It scores {_pair(difference(found, tests[BY_CHANCE]))} more than plain
        distillation of as many texts sampled at random. {f"{seeds} seeds" if seeds > 1 else "One seed"};
        [all figures](../benchmarks/results/agora.md#agora-with-a-general-pool). {_measured(result)}
        """
    )


@_block("ose-nano")
def ose_nano(results: Results) -> str:
    """A search on the nano space."""
    figures = results["ose"].record["figures"]
    search, compared = figures["search"], figures["compared"]
    found, nano = compared[0], next(c for c in compared if c["shape"] == figures["nano"])
    steps = [run["steps"] for run in found["runs"]]
    former = figures["space"] != axes(SPACES["nano"])
    space = f"a former nano space ({told(figures['space'])})" if former else "the nano space"
    return _wrapped(
        f"""
        {len(search["candidates"])} candidates of {space}, {steps[0]} steps each, took
        {search["training_seconds"] / 60:.0f} minutes on one core. The smallest member won,
        ⟨{",".join(map(str, found["shape"]))}⟩, but it is not a better encoder: after {steps[1]} steps its error is
        {found["errors"][1]:.2f}, and that of ⟨{",".join(map(str, nano["shape"]))}⟩,
        {"then " if nano["shape"] != [*NANO_SHAPE] else ""}bort-nano's shape, is
        {nano["errors"][1]:.2f}. Sizes differ tenfold and errors by a tenth, so the size decides.
        {"The present nano space has not been searched at full length. " if former else ""}One run.
        {_measured(results["ose"])}
        """
    )


@_block("ose-inherited")
def ose_inherited(results: Results) -> str:
    """A search over the parts of a trained encoder."""
    figures = results["ose_inherit"].record["figures"]
    search, compared = figures["search"], figures["compared"]
    least, most = (f"{bound(c['row']['parameters'] for c in compared) / 1e6:.0f}" for bound in (min, max))
    return _wrapped(
        f"""
        {len(search["candidates"])} parts of {search["inherited"]}, {search["steps"]} steps each, took
        {search["training_seconds"] / 60:.0f} minutes of training on one core. {len(compared)} of them with {least} to
        {most} M parameters were then trained 20 times longer. The rank correlation of these errors with the errors
        after {search["steps"]} steps is {figures["rank_of_short"]:.2f}, and with the errors before any training
        {figures["rank_of_untrained"]:.2f}, so with inherited weights e is informative. W still weighs size so heavily
        that it chooses one of the smallest parts, ⟨{",".join(map(str, search["by_w_alone"].values()))}⟩, with an error
        of {search["error"]:.2f}. Bound the error, or choose from the Pareto front. One run.
        {_measured(results["ose_inherit"])}
        """
    )


@_block("ose-paper")
def ose_paper(results: Results) -> str:
    """Where the published answer stands."""
    stands = results["ose_paper"].record["figures"]["standing"]["128 tokens, all parameters"]
    return _wrapped(
        f"""
        The published answer is number {stands["place"]} of 300 in the order of the paper's space, and only ε =
        {" and ".join(map(str, stands["epsilons"]))} try it as the first of a block. The smallest member wins unless its
        error is at least {stands["least_ratio"]:.2f} times that of the published answer.
        """
    )


@_block("cached-targets")
def cached_targets(results: Results) -> str:
    """What is lost by learning from cached targets."""
    runs = results["teacher_cache_quality"].record["figures"]["runs"]
    worst = 100 * max(at["off"] for run in runs for at in run["judged"].values())
    last = {(run["kind"], run["times"]): [*run["judged"].values()][-1]["full"] for run in runs}
    steps = [*runs[0]["judged"]][-1]
    several = max(times for _, times in last)
    return _wrapped(
        f"""
        On rows that the student has not trained on, the loss on cached targets is within {worst:.1f} % of the full
        loss. The student learns a little less from each row than from the teacher itself, and overfits to the sampled
        targets if it sees the same rows several times. After {steps} steps the distance to the teacher on held-out rows
        was {last["beside", 1]:.2f} with the teacher itself, {last["cache", 1]:.2f} with cached targets of rows seen
        once, and {last["cache", several]:.2f} of rows seen {several} times (one run each).
        """
    )


@_block("nano-glue")
def nano_glue(results: Results) -> str:
    """bort-nano on all training data of GLUE tasks."""
    from benchmarks.quality.nano import GLUE

    found = results["nano"].record["figures"]["glue"]
    scores = [f"{name} {100 * found[name]['dev'][GLUE[name]['metric']]:.1f}" for name in found]
    return _wrapped(
        f"""
        Trained on all data of a GLUE task, bort-nano's development scores are {", ".join(scores)} (one run, one
        learning rate; Matthews' correlation for CoLA, Pearson's for STS-B). {_measured(results["nano"])}
        """
    )


@_block("scale-estimate")
def scale_estimate(results: Results) -> str:
    """A step of pre-training on 1, 8 and 512 GPUs, on paper."""
    from bort.ose.cost import parameters
    from bort.ose.space import Shape

    counted = parameters(Shape(4, 8, 1024, 768), vocab_size=50_265)
    tokens, flops, between, outside = 32 * 512, 100e12, 250e9, 25e9
    # The word embedding computes in the masked-LM head only, at 15 % of the positions.
    working = counted.layers + 0.15 * 50_265 * 1024
    computing = 1000 * 6 * working * tokens / flops
    gradients = 4 * counted.total
    sums = [0.0, 1000 * 2 * 7 / 8 * gradients / between]
    sums.append(sums[1] + 1000 * 2 * gradients / outside)
    head = ["", "1 GPU", "8 GPUs", "64 nodes of 8"]
    rows: Sequence[Sequence[str]] = [
        ["computing, ms a step", *[f"{computing:.0f}"] * 3],
        ["gradients to sum, MB (fp32)", "0", *[f"{gradients / 1e6:.0f}"] * 2],
        ["summing them, ms, without overlap", *(f"{value:.1f}" for value in sums)],
        ["rows a step, all GPUs", "32", "256", "16,384"],
    ]
    teacher = 1000 * 2 * 303e6 * tokens / flops / computing
    return _wrapped(
        f"""
        The published Bort has {counted.total / 1e6:.1f} M parameters (the paper says 56 M), of which
        {counted.layers / 1e6:.1f} M are in the layers. A token costs about 6 operations for each parameter that
        computes, forward and backward, and 2 for each of a teacher beside it. A step of 32 rows of 512 tokens a GPU is
        {tokens:,} tokens:
        """,
        table(head, rows),
        f"""
        A teacher of RoBERTa-large's size that runs in each step costs {teacher:.1f} times as much as the student. With
        cached targets it costs nothing.
        """,
    )
