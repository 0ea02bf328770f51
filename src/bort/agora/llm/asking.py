"""Concurrent requests to one endpoint, with a rate limit, retries and a budget."""

from __future__ import annotations

import heapq
import json
import queue
import random
import threading
import time
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, field

from bort.agora.answer_cache import Charge
from bort.agora.llm.budget import Budget
from bort.agora.llm.client import ChatClient, Endpoint, Reply, TroubleError
from bort.agora.llm.options import Messages, Options
from bort.errors import BortError
from bort.progress import say

FIRST_WAIT_SECONDS = 0.5
"""Delay before the first retry if the server names none; it doubles each time."""
LONGEST_WAIT_SECONDS = 600.0
_LONGEST_OWN_WAIT_SECONDS = 60.0
_MOST_ATTEMPTS = 8
_ATTEMPTS_BEFORE_ANY_SUCCESS = 3
_MOST_FAILURES_IN_A_ROW = 5
_REFUSED = "refused by the server"
_LANDING_SECONDS = 10.0
"""How long answers in flight are waited for when another request ends all."""
_TOKENS_AROUND = 64
"""Maximum number of tokens that a server adds around all messages, and around each message."""


class Outcome:
    """The outcome of one request.

    Attributes:
        name: Name of the prompt.
        reply: The answer, or None.
        charge: Charge of the request; None if it was not charged.
        given_up: Why the prompt gets no answer; None if it has one or will be retried.
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
    checks: bool = field(default=False, compare=False)
    """Whether its text was refused, and a text that was answered before is sent in its place."""


class Asker:
    """Sends many prompts with the same instructions to one model.

    The first request is sent alone, to find out which options the server accepts. Those that it refuses are dropped for
    all requests; later refusals concern a text. Only the caller's thread makes decisions; others send and wait.

    Args:
        endpoint: API endpoint of the model.
        options: Options of the requests.
        budget: The budget.
        concurrency: Maximum number of concurrent requests.
        per_minute: Maximum number of requests per minute.
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
        self._refusals = 0
        self._known: Messages | None = None
        self._jitter = random.Random(0)
        self.out_of_budget = False
        """Whether prompts were not sent because the budget was used up."""

    def ask(self, prompts: Mapping[str, Messages], known: Messages | None = None) -> Generator[Outcome]:
        """Send each prompt, and yield the outcomes as they come.

        Prompts that get neither a reply nor a reason (`given_up`) were beyond the budget.

        Args:
            prompts: Prompts by name.
            known: A prompt that was answered before. If several in a row are refused, it or a later one like it is sent
                again: if it is refused, too, the server takes nothing any more.

        Raises:
            BortError: The server rejects all requests, or fails repeatedly.
        """
        self._known = known or self._known
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
        flying, over = dict[str, _Job](), False
        try:
            while jobs or flying:
                wait = None
                while jobs and len(flying) < (threads if self._works else 1):
                    wait = max(jobs[0].not_before, self._next_at) - time.monotonic()
                    if wait > 0:
                        break
                    wait, job = None, jobs[0]
                    job.most = self._most(job.messages)
                    if not self._budget.set_aside(job.most):
                        if not flying:  # else an answer may free reserved budget
                            over = self.out_of_budget = True
                        break
                    heapq.heappop(jobs)
                    self._next_at = max(self._next_at, time.monotonic() + self._pause)
                    waiting.put(job)
                    flying[job.name] = job
                if over:
                    break
                try:
                    job, result = done.get(timeout=wait)
                except queue.Empty:
                    continue
                del flying[job.name]
                try:
                    outcome = self._settled(job, result)
                except BortError:
                    if isinstance(result, TroubleError) and result.charged:
                        yield Outcome(job.name, None, job.most)
                    yield from self._landed(flying, done)
                    raise
                if outcome.reply is None and outcome.given_up is None:
                    heapq.heappush(jobs, job)
                yield outcome
        finally:
            for _ in range(threads):
                waiting.put(None)
            client.close()

    def _landed(
        self, flying: dict[str, _Job], done: queue.SimpleQueue[tuple[_Job, Reply | TroubleError]]
    ) -> Iterator[Outcome]:
        """Yield what becomes of the requests in flight, which are paid for, before an error ends all.

        Those that are not answered soon count as the most that they may cost.
        """
        until = time.monotonic() + _LANDING_SECONDS
        while flying:
            try:
                job, result = done.get(timeout=max(0.0, until - time.monotonic()))
            except queue.Empty:
                break
            del flying[job.name]
            if isinstance(result, Reply):
                yield self._answered(job, result)
                continue
            charge = job.most if result.charged else None
            self._budget.settle(job.most, charge)
            yield Outcome(job.name, None, charge)
        for job in flying.values():
            self._budget.settle(job.most, job.most)
            yield Outcome(job.name, None, job.most)

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
        """Return the maximum charge of a request, assuming that each token has at least one byte.

        All prompts start alike, so the tokens of the shortest prompt so far bound those around the text.
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
        if result.kind in ("refused", "forbidden"):
            return Outcome(job.name, None, charge, self._refused(job, result))
        if not self._works and job.attempts == 1:
            say(f"{self._endpoint.url} {result}; trying again")
        busy = result.kind == "busy"
        if job.attempts < (_MOST_ATTEMPTS if self._works or busy else _ATTEMPTS_BEFORE_ANY_SUCCESS):
            self._be_patient(job, result)
            return Outcome(job.name, None, charge)
        if not self._works and not busy and "status" in str(result) and self._gives_up(str(result)):
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
                say(f"{self._endpoint.model} is asked without {', '.join(lacking)}: the server refuses it")
        self._failures.clear()
        self._refusals = 0
        prompt, completion = reply.prompt_tokens, reply.completion_tokens
        if prompt is not None:
            self._least_prompt = min(prompt, self._least_prompt or prompt)
        charge = self._budget.charge(
            job.most.prompt_tokens if prompt is None else prompt,
            len(reply.text.encode("utf-8", "replace")) if completion is None else completion,
        )
        self._budget.settle(job.most, charge)
        if job.checks:
            return Outcome(job.name, None, charge, _REFUSED)
        self._known = job.messages
        return Outcome(job.name, reply, charge)

    def _gives_up(self, told: str) -> bool:
        """Drop an option, but not the limit of the answer's length that a budget relies on."""
        return self._options.give_up(told, keep_limit=self._budget.limit_usd is not None)

    def _refused(self, job: _Job, trouble: TroubleError) -> str | None:
        """Drop an option and return None; if none is left to drop, or requests have worked before, blame the text.

        After several refusals in a row, the job is made to send a text that was answered before: is the text to blame?
        """
        told, job.attempts = str(trouble), 0
        if not self._works:
            if trouble.kind == "refused" and self._gives_up(told):
                return None
            self._options.start_over()
        self._refusals += 1
        most = _MOST_FAILURES_IN_A_ROW if self._works else _ATTEMPTS_BEFORE_ANY_SUCCESS
        if trouble.kind == "forbidden" and not self._works and self._known is not None:
            most = 1  # the key may be blocked, and few texts may be left
        if not job.checks and self._refusals % most:
            return _REFUSED
        if job.checks or self._known is None:
            raise self._failure(told)
        job.checks, job.messages = True, self._known
        return None

    def _be_patient(self, job: _Job, trouble: TroubleError) -> None:
        """Set the time of a job's retry; a busy server delays all jobs."""
        wait = trouble.wait_seconds
        if wait is None:
            doubled = FIRST_WAIT_SECONDS * 2 ** (job.attempts - 1)
            wait = min(_LONGEST_OWN_WAIT_SECONDS, doubled) * (1 + self._jitter.random() / 4)
        if wait > LONGEST_WAIT_SECONDS:
            raise self._failure(f"{trouble}; it asks to wait for {wait:.0f} seconds")
        again_at = time.monotonic() + wait
        if self._works:
            job.not_before = again_at
        if trouble.kind == "busy" or not self._works:  # the first request is sent alone until it is answered
            self._next_at = max(self._next_at, again_at)

    def _failure(self, told: str) -> BortError:
        rule = f"{self._endpoint.model}: {told}; answers so far are kept, and are not paid for again"
        return BortError(rule, file=self._endpoint.url)
