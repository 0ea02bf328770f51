"""Teachers and generators that are asked, and may have their price: a command, or an LLM behind an API."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Any

from bort.agora.answer_cache import AnswerCache, default_folder, digest
from bort.agora.command_lines import LineCommand
from bort.agora.command_teacher import TIMEOUT_SECONDS, CommandTeacher
from bort.agora.generators import ChatGenerator, CommandGenerator, Generator
from bort.agora.journal import FOLDER
from bort.agora.labellers import Teacher
from bort.agora.llm.asking import Asker
from bort.agora.llm.budget import Budget
from bort.agora.llm.client import OPENAI_URL, Endpoint, api_key, openai_package
from bort.agora.llm.options import Messages, Options
from bort.agora.llm.paid_answers import PaidAnswers
from bort.agora.llm.prompt import LabelPrompt, check_labels, chosen_examples, read_instructions
from bort.agora.llm.teacher import ChatTeacher
from bort.agora.llm.writing import WritingPrompt
from bort.finetuning.arguments import LLM_PREFIX, FinetuneArguments
from bort.finetuning.splits import Splits

REQUEST_SECONDS = 120.0
"""Longest time of one request to an LLM, by default."""
LEAST_WRITING_TOKENS = 2048
"""New texts are longer than labels: so long may their answers be at least."""


def is_language_model(teacher: str | None) -> bool:
    """Whether `--teacher` names an LLM: `openai:MODEL`."""
    return teacher is not None and teacher.startswith(LLM_PREFIX)


def check_asked(arguments: FinetuneArguments) -> None:
    """Refuse, before anything is made, a command without a program, and an LLM without key, package or instructions.

    Raises:
        BortError: The first of them.
    """
    for setting in ("teacher_command", "generator"):
        line = getattr(arguments, setting)
        if line is not None and not is_language_model(line):
            LineCommand(line, setting, TIMEOUT_SECONDS).words()
    for name in (arguments.teacher, arguments.generator):
        if is_language_model(name):
            read_instructions(arguments.instructions)
            endpoint(arguments, name or "")
            openai_package()


def asked_teacher(arguments: FinetuneArguments, data: Splits) -> Teacher | None:
    """The command or the LLM that the settings name as teacher; None where they name another one.

    Args:
        arguments: Of the run.
        data: Whose task it is, and whose training texts stand as examples before an LLM.

    Raises:
        BortError: It cannot be asked.
    """
    if arguments.teacher_command is not None:
        timeout = arguments.teacher_timeout or TIMEOUT_SECONDS
        command = LineCommand(arguments.teacher_command, "teacher_command", timeout)
        # What a command says may change when its program does, so its answers serve this run alone.
        folder = Path(arguments.answer_cache or Path(arguments.out) / FOLDER / "answers")
        return CommandTeacher(command, data.task, arguments.teacher_batch, folder)
    if is_language_model(arguments.teacher):
        return _language_model(arguments, data, arguments.teacher or "")
    return None


def _language_model(arguments: FinetuneArguments, data: Splits, name: str) -> ChatTeacher:
    instructions = read_instructions(arguments.instructions)
    check_labels(instructions, data.task, arguments.instructions)
    prompt = LabelPrompt(data.task, instructions, chosen_examples(data.train, data.task, arguments.teacher_examples))
    options = Options(prompt.schema, arguments.teacher_max_tokens, logprobs=data.task.kind == "classification")
    return ChatTeacher(prompt, paid_answers(arguments, name, prompt.head, options, budget_of(arguments)))


def budget_of(arguments: FinetuneArguments) -> Budget:
    """What a run may spend, at which prices."""
    return Budget(arguments.teacher_input_price or 0.0, arguments.teacher_output_price or 0.0, arguments.budget_usd)


def paid_answers(
    arguments: FinetuneArguments, name: str, head: Messages, options: Options, budget: Budget
) -> PaidAnswers:
    """The answers of `openai:MODEL`, by whatever stands before each question.

    Raises:
        BortError: There is no API key where one is needed, or the cache cannot be used.
    """
    where = endpoint(arguments, name)
    asked_of = {"url": where.url, "model": where.model, "head": head, "schema": options.schema}
    cache = AnswerCache(Path(arguments.answer_cache or default_folder()), asked_of, run_identity(arguments.out))
    asker = Asker(where, options, budget, arguments.teacher_concurrency, arguments.teacher_requests_per_minute)
    return PaidAnswers(name, asker, cache, budget, options.max_tokens)


def chosen_generator(arguments: FinetuneArguments, data: Splits, teacher: Teacher) -> Generator | None:
    """Who writes new texts, as the settings name it; an LLM that writes and one that teaches share a budget.

    Args:
        arguments: Of the run.
        data: Whose task it is.
        teacher: Of the run.

    Raises:
        BortError: It cannot be asked.
    """
    name, count = arguments.generator, arguments.generated_per_mistake
    if name is None or not count:
        return None
    if not is_language_model(name):
        command = LineCommand(name, "generator", arguments.teacher_timeout or TIMEOUT_SECONDS)
        folder = Path(arguments.answer_cache or Path(arguments.out) / FOLDER / "answers")
        return CommandGenerator(command, count, arguments.teacher_batch, folder)
    instructions = read_instructions(arguments.instructions)
    check_labels(instructions, data.task, arguments.instructions)
    prompt = WritingPrompt(instructions, count, data.train[0].text_b is not None)
    longest = max(arguments.teacher_max_tokens, LEAST_WRITING_TOKENS)
    options = Options(prompt.schema, longest, temperature=1.0, logprobs=False)
    budget = teacher.answers.budget if isinstance(teacher, ChatTeacher) else budget_of(arguments)
    return ChatGenerator(prompt, paid_answers(arguments, name, prompt.head, options, budget))


def endpoint(arguments: FinetuneArguments, name: str) -> Endpoint:
    """Where `openai:MODEL` is asked.

    Raises:
        BortError: There is no API key where one is needed.
    """
    url = (arguments.teacher_url or os.environ.get("OPENAI_BASE_URL") or OPENAI_URL).rstrip("/")
    key = api_key(arguments.teacher_key_file, url)
    return Endpoint(name.removeprefix(LLM_PREFIX), url, key, arguments.teacher_timeout or REQUEST_SECONDS)


def run_identity(out: str) -> str:
    """What tells a run from all others, also after it was interrupted or its folder has moved."""
    try:
        with open(Path(out) / "journal.jsonl", encoding="utf-8") as journal:
            return digest(journal.readline())
    except OSError:
        return secrets.token_hex(16)


def usage(asked: Teacher | Generator | None) -> dict[str, Any]:
    """What asking has taken, for `metrics.json`; nothing where no LLM is asked."""
    return {"usage": asked.answers.usage} if isinstance(asked, ChatTeacher | ChatGenerator) else {}


def unasked(teacher: Teacher) -> list[str]:
    """A sentence about texts that the budget left without a label."""
    used = usage(teacher).get("usage")
    if used is None or not used["out_of_budget"]:
        return []
    left = sum(count for reason, count in used["abstained"].items() if reason.startswith("not asked"))
    return [f"the budget of {used['budget_usd']:g} USD was used up: the teacher was not asked of {left:,} texts"]
