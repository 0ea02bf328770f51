"""A server that is killed under load and started again: each client gets the one right answer to each request."""

from __future__ import annotations

import json
import os
import random
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from http.client import HTTPConnection, HTTPException
from itertools import count
from pathlib import Path

import pytest

from chaos.commands import COUNT, SEED, record, told
from launcher import Launcher

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="forks and signals of Linux"),
    pytest.mark.xdist_group("chaos"),
    pytest.mark.slow,
]
CLIENTS = 4
LONGEST_SECONDS = 60


class Served:
    """A server on one port, again and again."""

    def __init__(self, launcher: Launcher, model: str, folder: Path) -> None:
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            self.port = found.getsockname()[1]
        self._launcher, self.folder = launcher, folder
        self._argv = ["serve", model, "--port", str(self.port), "--threads", "1", "--no-access-log"]
        self.process = 0

    def start(self) -> None:
        self.process = self._launcher.start(self._argv, self.folder)
        end = time.monotonic() + LONGEST_SECONDS
        while time.monotonic() < end:
            with suppress(OSError, HTTPException):
                connection = HTTPConnection("127.0.0.1", self.port, timeout=5)
                connection.request("GET", "/health")
                if connection.getresponse().status == 200:
                    connection.close()
                    return
            time.sleep(0.01)
        pytest.fail(f"the server did not start: {told(self.folder)}")

    def end(self, sent: signal.Signals) -> int:
        os.kill(self.process, sent)
        return self._launcher.wait(self.process)


class Client(threading.Thread):
    """Asks, one text after another on one connection, and again where the server goes before it has answered."""

    def __init__(self, port: int, texts: Iterator[str]) -> None:
        super().__init__(daemon=True)
        self.answers: dict[str, list[bytes]] = {}
        self.broken, self.again = 0, 0
        self.wrong: list[str] = []
        self.stopping = threading.Event()
        self._port, self._texts = port, texts

    def run(self) -> None:
        connection = HTTPConnection("127.0.0.1", self._port, timeout=LONGEST_SECONDS)
        for text in self._texts:
            while not self._answered(connection, text):
                connection.close()
                time.sleep(0.002)
            if self.stopping.is_set():
                break
        connection.close()

    def _answered(self, connection: HTTPConnection, text: str) -> bool:
        try:
            connection.request("POST", "/predict", json.dumps({"inputs": text}), {"content-type": "application/json"})
            response = connection.getresponse()
            body = response.read()
        except TimeoutError:
            self.wrong.append(f"no answer to {text!r} in {LONGEST_SECONDS} s")
            return True
        except (OSError, HTTPException) as error:
            self.broken += getattr(error, "partial", b"") != b""
            self.again += 1
            return False
        if response.status == 503:  # it is ending
            self.again += 1
            return False
        if response.status != 200:
            self.wrong.append(f"{text!r}: {response.status} {body!r}")
        if connection.sock is not None and select.select([connection.sock], [], [], 0)[0]:
            with suppress(OSError):
                if more := connection.sock.recv(100):
                    self.wrong.append(f"after the answer to {text!r} comes {more!r}")
        self.answers.setdefault(text, []).append(body)
        return True


def texts_of(client: int) -> Iterator[str]:
    return (f"client {client} asks {number} about the harbour" for number in count())


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGTERM], ids=["killed", "ended"])
def test_no_answer_is_lost_or_doubled(launcher, classifier, tmp_path, sent):
    pytest.importorskip("fastapi", reason="needs bort[serve]")
    from bort.predict.predictor import Predictor

    folder = tmp_path / "work"
    folder.mkdir()
    chance = random.Random(f"{SEED} serve {sent}")
    served = Served(launcher, classifier, folder)
    served.start()
    clients = [Client(served.port, texts_of(number)) for number in range(CLIENTS)]
    for client in clients:
        client.start()
    for attempt in range(-(-COUNT // 9)):
        moment = chance.uniform(0.05, 0.6)
        time.sleep(moment)
        status = served.end(sent)
        record("serve", command="serve", attempt=attempt, seconds=moment, killed=status == -signal.SIGKILL)
        assert status == (-signal.SIGKILL if sent == signal.SIGKILL else 0), told(folder)
        served.start()
    time.sleep(0.2)
    for client in clients:
        client.stopping.set()
    for client in clients:
        client.join(LONGEST_SECONDS)
        assert not client.is_alive(), "a client still waits"
    assert served.end(signal.SIGTERM) == 0, told(folder)
    assert "Traceback" not in told(folder)
    assert not [said for client in clients for said in client.wrong]
    assert sum(client.again for client in clients) > 0, "no client saw the server go"
    if sent == signal.SIGTERM:
        assert not any(client.broken for client in clients), "an ending server cut an answer"
    with Predictor(classifier, threads=1) as predictor:
        for number, client in enumerate(clients):
            asked = [text for text, _ in zip(texts_of(number), client.answers, strict=False)]
            assert [*client.answers] == asked, "a request was left out"
            assert {len(answers) for answers in client.answers.values()} == {1}
            for text, right in zip(asked, predictor.predict(asked), strict=True):
                found = {one["label"]: one["score"] for one in json.loads(client.answers[text][0])}
                assert found == pytest.approx(right.probabilities, abs=1e-5), text
