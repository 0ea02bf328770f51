"""Many requests to one endpoint: some at a time, no more a minute than wished, with patience, and within a budget."""

from __future__ import annotations

import heapq
import json
import queue
import random
import threading
import time
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field

from bort.agora.answer_cache import Charge
from bort.agora.llm.budget import Budget
from bort.agora.llm.client import ChatClient, Endpoint, Reply, TroubleError
from bort.agora.llm.options import Messages, Options
from bort.errors import BortError
from bort.progress import console

FIRST_WAIT_SECONDS = 0.5
"""Before a request is sent again where the server names no time; it doubles each time."""
LONGEST_WAIT_SECONDS = 600.0
_LONGEST_OWN_WAIT_SECONDS = 60.0
_MOST_ATTEMPTS = 8
_ATTEMPTS_BEFORE_ANY_SUCCESS = 3
_MOST_FAILURES_IN_A_ROW = 5
_TOKENS_AROUND = 64
"""Most tokens that a server puts around the messages, and each message has around it."""


class Outcome:
    """What came of one prompt, or on the way to it.

    Attributes:
        name: Of the prompt.
        reply: The answer; None where there is none.
        charge: What the request took; None where it was not charged.
        given_up: Why the prompt will have no answer; None where it has one or will still be asked.
    """

    __slots__ = ("charge", "given_up", "name", "reply")

    def __init__(self, name: str, reply: Reply | None, charge: Charge | None, given_up: str | None = None) -> None:
        self.name, self.reply, self.charge, self.given_up = name, reply, charge, given_up


@dataclass(order=True)
class _Job:
    not_before: float
    place: int
    name: str = field(compare=False)
    messages: Messages = field(compare=False)
    attempts: int = field(default=0, compare=False)
    most: Charge = field(default_factory=Charge, compare=False)


class Asker:
    """Asks one model many things under the same instructions.

    The first request goes alone, and finds out what the server takes. Its refusals of options make all requests ask for
    less; later refusals are about a text. Only this thread decides; others send and wait.

    Args:
        endpoint: Where to ask.
        options: What is asked for.
        budget: Pays.
        concurrency: Requests at a time.
        per_minute: Most requests a minute.
    """

    def __init__(
        self, endpoint: Endpoint, options: Options, budget: Budget, concurrency: int, per_minute: float | None = None
    ) -> None:
        self._endpoint, self._options, self._budget = endpoint, options, budget
        self._concurrency, self._pause = concurrency, 60.0 / per_minute if per_minute else 0.0
        self._next_at = 0.0
        self._works = False
        self._least_prompt: int | None = None
        self._failures: list[str] = []
        self._jitter = random.Random(0)
        self.out_of_budget = False
        """Whether something was left unasked for want of money."""

    def ask(self, prompts: Mapping[str, Messages]) -> Generator[Outcome]:
        """Ask each prompt, and tell what comes of them as it comes.

        Prompts that are never told of were not asked, as the budget did not allow it.

        Raises:
            BortError: The server takes no request, or fails again and again.
        """
        jobs = [_Job(0.0, place, name, messages) for place, (name, messages) in enumerate(prompts.items())]
        heapq.heapify(jobs)
        if not jobs:
            return
        waiting: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        done: queue.SimpleQueue[tuple[_Job, Reply | TroubleError]] = queue.SimpleQueue()
        client = ChatClient(self._endpoint)
        threads = min(self._concurrency, len(jobs))
        for _ in range(threads):
            # Daemons: an interrupted run does not wait for answers that nobody will read.
            threading.Thread(target=self._work, args=(client, waiting, done), daemon=True).start()
        in_flight, over = 0, False
        try:
            while jobs or in_flight:
                wait = None
                while jobs and in_flight < (threads if self._works else 1):
                    wait = max(jobs[0].not_before, self._next_at) - time.monotonic()
                    if wait > 0:
                        break
                    wait, job = None, jobs[0]
                    job.most = self._most(job.messages)
                    if not self._budget.set_aside(job.most):
                        over = self.out_of_budget = not in_flight  # else an answer may free what was set aside
                        break
                    heapq.heappop(jobs)
                    self._next_at = max(self._next_at, time.monotonic() + self._pause)
                    waiting.put(job)
                    in_flight += 1
                if over:
                    break
                try:
                    job, result = done.get(timeout=wait)
                except queue.Empty:
                    continue
                in_flight -= 1
                outcome = self._settled(job, result)
                if outcome.reply is None and outcome.given_up is None:
                    heapq.heappush(jobs, job)
                yield outcome
        finally:
            for _ in range(threads):
                waiting.put(None)
            client.close()

    def _work(
        self,
        client: ChatClient,
        waiting: queue.SimpleQueue[_Job | None],
        done: queue.SimpleQueue[tuple[_Job, Reply | TroubleError]],
    ) -> None:
        while (job := waiting.get()) is not None:
            try:
                done.put((job, client.send(self._options.body(self._endpoint.model, job.messages))))
            except TroubleError as trouble:
                done.put((job, trouble))
            except Exception as error:
                done.put((job, TroubleError(f"{type(error).__name__}: {error}", "hopeless")))

    def _most(self, messages: Messages) -> Charge:
        """The most tokens that a request can take: a token has a byte at least.

        All prompts begin alike, so a known one bounds what stands around the text.
        """
        own = len(messages[-1]["content"].encode("utf-8", "replace")) + _TOKENS_AROUND
        if self._least_prompt is None:
            schema = json.dumps(dict(self._options.schema))
            everything = [message["content"] for message in messages] + [schema]
            size = sum(len(text.encode("utf-8", "replace")) for text in everything)
            return self._budget.charge(size + _TOKENS_AROUND * (1 + len(messages)), self._options.max_tokens)
        return self._budget.charge(self._least_prompt + own, self._options.max_tokens)

    def _settled(self, job: _Job, result: Reply | TroubleError) -> Outcome:
        if isinstance(result, Reply):
            return self._answered(job, result)
        charge = job.most if result.charged else None
        self._budget.settle(job.most, charge)
        job.attempts += 1
        if result.kind == "hopeless":
            raise self._failure(str(result))
        if result.kind == "refused":
            return Outcome(job.name, None, charge, self._refused(job, str(result)))
        if not self._works and job.attempts == 1:
            console().print(f"{self._endpoint.url} {result}; trying again", soft_wrap=True)
        busy = result.kind == "busy"
        if job.attempts < (_MOST_ATTEMPTS if self._works or busy else _ATTEMPTS_BEFORE_ANY_SUCCESS):
            self._be_patient(job, result)
            return Outcome(job.name, None, charge)
        if not self._works and not busy and "status" in str(result) and self._options.give_up(str(result)):
            job.attempts = 0  # some servers fail where they should refuse
            return Outcome(job.name, None, charge)
        self._failures.append(str(result))
        if not self._works or len(self._failures) >= _MOST_FAILURES_IN_A_ROW:
            raise self._failure(str(result))
        return Outcome(job.name, None, charge, "no answer")

    def _answered(self, job: _Job, reply: Reply) -> Outcome:
        if not self._works:
            self._works = True
            if lacking := self._options.lacking():
                console().print(f"{self._endpoint.model} is asked without {', '.join(lacking)}: the server refuses it")
        self._failures.clear()
        prompt, completion = reply.prompt_tokens, reply.completion_tokens
        if prompt is not None:
            self._least_prompt = min(prompt, self._least_prompt or prompt)
        charge = self._budget.charge(
            job.most.prompt_tokens if prompt is None else prompt,
            len(reply.text.encode("utf-8", "replace")) if completion is None else completion,
        )
        self._budget.settle(job.most, charge)
        return Outcome(job.name, reply, charge)

    def _refused(self, job: _Job, told: str) -> str | None:
        """Ask for less and give None; or where nothing is left to give up, or the rest is taken, blame the text."""
        job.attempts = 0
        if not self._works and self._options.give_up(told):
            return None
        if not self._works:
            self._failures.append(told)
            self._options.start_over()
            if len(self._failures) >= _ATTEMPTS_BEFORE_ANY_SUCCESS:
                raise self._failure(told)
        return "refused by the server"

    def _be_patient(self, job: _Job, trouble: TroubleError) -> None:
        """Set the time at which a job may go again; a busy server is left in peace by all."""
        wait = trouble.wait_seconds
        if wait is None:
            doubled = FIRST_WAIT_SECONDS * 2 ** (job.attempts - 1)
            wait = min(_LONGEST_OWN_WAIT_SECONDS, doubled) * (1 + self._jitter.random() / 4)
        if wait > LONGEST_WAIT_SECONDS:
            raise self._failure(f"{trouble}; it asks to wait for {wait:.0f} seconds")
        again_at = time.monotonic() + wait
        if self._works:
            job.not_before = again_at
        if trouble.kind == "busy" or not self._works:  # the first request goes alone until it is answered
            self._next_at = max(self._next_at, again_at)

    def _failure(self, told: str) -> BortError:
        rule = f"{self._endpoint.model}: {told}; answers so far are kept, and are not paid for again"
        return BortError(rule, file=self._endpoint.url)
