"""An LLM as the teacher."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from bort.agora.answer_cache import digest
from bort.agora.answers import answer_row
from bort.agora.command_teacher import asked_row
from bort.agora.llm.paid_answers import PaidAnswers
from bort.agora.llm.prompt import LabelPrompt
from bort.agora.llm.reading import read_answer
from bort.data.tables.examples import Example
from bort.tasks.task import Says


class ChatTeacher:
    """Labels texts by asking an LLM once per text, in this run and in all runs with the same requests.

    Texts without a valid label, refused texts, and texts beyond the budget count as unknown.

    Args:
        prompt: Builds the prompts.
        answers: The LLM's answers, cached.
    """

    def __init__(self, prompt: LabelPrompt, answers: PaidAnswers) -> None:
        self.name, self.answers, self._prompt = answers.name, answers, prompt

    def __call__(self, examples: Sequence[Example]) -> Says:
        """See `Teacher.__call__`.

        Raises:
            BortError: The server rejects all requests, or fails repeatedly.
        """
        task = self._prompt.task
        names = [digest(asked_row(example)) for example in examples]
        prompts = {name: self._prompt.messages(e) for name, e in dict(zip(names, examples, strict=True)).items()}
        found = self.answers.get(prompts, partial(read_answer, task=task), "answers")
        rows = [answer_row(found[name].get("answer"), task) for name in names]
        return np.array(rows, dtype=np.float64).reshape(len(examples), task.outputs)
