"""Teachers and generators whose answers may cost money: commands, and LLMs behind an API."""

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
from bort.errors import BortError
from bort.finetuning.arguments import LLM_PREFIX, FinetuneArguments, broken_url_rule
from bort.finetuning.splits import Splits

REQUEST_SECONDS = 120.0
"""Default timeout of a request to an LLM."""
LEAST_WRITING_TOKENS = 2048
"""Minimum token limit of a generator's answers; new texts are longer than labels."""


def is_language_model(teacher: str | None) -> bool:
    """Whether `--teacher` names an LLM: `openai:MODEL`."""
    return teacher is not None and teacher.startswith(LLM_PREFIX)


def check_asked(arguments: FinetuneArguments) -> None:
    """Reject a command without a program, and an LLM whose instructions, API key or package are missing or bad.

    Raises:
        BortError: The first problem found.
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
    """Create the teacher if the settings name a command or an LLM; None if they name another one.

    Args:
        arguments: Settings of the run.
        data: Provides the task, and the training texts that an LLM gets as examples.

    Raises:
        BortError: The teacher cannot be used.
    """
    if arguments.teacher_command is not None:
        timeout = arguments.teacher_timeout or TIMEOUT_SECONDS
        command = LineCommand(arguments.teacher_command, "teacher_command", timeout)
        # A command's answers may change with its program, so by default they are cached for this run alone.
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
    """Return the budget of a run, with its prices."""
    return Budget(arguments.teacher_input_price or 0.0, arguments.teacher_output_price or 0.0, arguments.budget_usd)


def paid_answers(
    arguments: FinetuneArguments, name: str, head: Messages, options: Options, budget: Budget
) -> PaidAnswers:
    """Return the cached answers of `openai:MODEL` to prompts that start with `head`.

    Raises:
        BortError: There is no API key where one is needed, or the cache cannot be used.
    """
    where = endpoint(arguments, name)
    asked_of = {"url": where.url, "model": where.model, "head": head, "schema": options.schema}
    cache = AnswerCache(Path(arguments.answer_cache or default_folder()), asked_of, run_identity(arguments.out))
    asker = Asker(where, options, budget, arguments.teacher_concurrency, arguments.teacher_requests_per_minute)
    return PaidAnswers(name, asker, cache, budget, options.max_tokens)


def chosen_generator(arguments: FinetuneArguments, data: Splits, teacher: Teacher) -> Generator | None:
    """Create the generator that the settings name, if any; it shares the budget of a teacher that is an LLM.

    Args:
        arguments: Settings of the run.
        data: Provides the task.
        teacher: Teacher of the run.

    Raises:
        BortError: The generator cannot be used.
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
    """Return the API endpoint of `openai:MODEL`.

    Raises:
        BortError: There is no API key where one is needed, or OPENAI_BASE_URL is no URL or holds a password.
    """
    url = (arguments.teacher_url or os.environ.get("OPENAI_BASE_URL") or OPENAI_URL).rstrip("/")
    rule = broken_url_rule(url)
    if rule is not None:  # `FinetuneArguments.check` has refused such a --teacher-url already
        raise BortError(f"OPENAI_BASE_URL {rule}")
    key = api_key(arguments.teacher_key_file, url)
    return Endpoint(name.removeprefix(LLM_PREFIX), url, key, arguments.teacher_timeout or REQUEST_SECONDS)


def run_identity(out: str) -> str:
    """Return a unique ID of the run, which stays the same when the run is resumed or its folder is moved."""
    try:
        with open(Path(out) / "journal.jsonl", encoding="utf-8") as journal:
            return digest(journal.readline())
    except OSError:
        return secrets.token_hex(16)


def keeps_answers(teacher: Teacher) -> bool:
    """Whether a teacher is an LLM, whose cache has all answers.

    A text without one was beyond the budget, or the server failed on it: a resumed run may ask again.
    """
    return isinstance(teacher, ChatTeacher)


def usage(asked: Teacher | Generator | None) -> dict[str, Any]:
    """Return the usage of an LLM, for `metrics.json`; empty for other teachers and generators."""
    return {"usage": asked.answers.usage} if isinstance(asked, ChatTeacher | ChatGenerator) else {}


def unasked(asked: Teacher | Generator | None, who: str) -> list[str]:
    """Return a sentence about the texts that an LLM was not asked about because the budget was used up, if any.

    Args:
        asked: A teacher or generator.
        who: What to call it.
    """
    used = usage(asked).get("usage")
    if used is None or not used["out_of_budget"]:
        return []
    left = sum(count for reason, count in used["abstained"].items() if reason.startswith("not asked"))
    return [f"the budget of {used['budget_usd']:g} USD was used up: the {who} was not asked about {left:,} texts"]
