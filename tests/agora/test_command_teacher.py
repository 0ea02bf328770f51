"""A command as the teacher: what it reads and writes, all that can go wrong, and that nothing is asked twice."""

from __future__ import annotations

import json
import os
import shlex
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bort.agora.answers import answer_row, parsed_line
from bort.agora.command_lines import LineCommand
from bort.agora.command_teacher import CommandTeacher
from bort.data.tables.examples import Example
from bort.errors import BortError
from bort.tasks.classification import Classification
from bort.tasks.multilabel import MultiLabel
from bort.tasks.regression import Regression

TASK = Classification(("cat", "other"), "accuracy")
VALUES = Regression((), "pearson")
TEXTS = [Example("a cat"), Example("a dog")]
LABELS_EACH = "import sys, json\nfor l in sys.stdin: print('cat' if 'cat' in json.loads(l)['text'] else 'other')"


def python(code: str) -> str:
    return shlex.join([sys.executable, "-c", code])


@pytest.fixture
def teacher(tmp_path):
    def make(line, task=TASK, batch=1000, timeout=30.0, folder="answers"):
        return CommandTeacher(LineCommand(line, "teacher_command", timeout), task, batch, tmp_path / folder)

    return make


def writes(text: str) -> str:
    return python(f"import sys; sys.stdin.read(); sys.stdout.buffer.write({text.encode()!r})")


def test_reads_json_lines_and_writes_answers(teacher):
    code = "import sys, json\nfor l in sys.stdin: print('cat' if 'cat' in json.loads(l)['text'] else '{\"other\": 1}')"
    assert TASK.decide(teacher(python(code))(TEXTS)).tolist() == [0, 1]
    pairs = teacher(python("import sys, json\nfor l in sys.stdin: print(json.loads(l)['text_b'])"))
    assert TASK.decide(pairs([Example("x", "other"), Example("y", "cat")])).tolist() == [1, 0]
    np.testing.assert_allclose(teacher(writes("2.5\n-1"), VALUES)(TEXTS), [[2.5], [-1]])


def test_a_blank_line_is_an_answer_of_one_that_does_not_know(teacher):
    says = teacher(writes('\n"cat"\n'))(TEXTS)
    assert np.isnan(says[0]).all()
    assert TASK.decide(says)[1] == 0


def test_nothing_is_asked_about_nothing(teacher):
    assert teacher("false")([]).shape == (0, 2)


def test_a_label_that_looks_like_json_or_holds_a_line_separator(teacher):
    task = Classification(("{a", '"b', "c\u2028d"), "accuracy")
    says = teacher(writes('{a\n"b\nc\u2028d\n'), task)([Example("1"), Example("2"), Example("3")])
    assert task.decide(says).tolist() == [0, 1, 2]


def test_windows_line_ends_and_a_byte_order_mark(teacher):
    assert TASK.decide(teacher(writes("\ufeffcat\r\nother\r\n"))(TEXTS)).tolist() == [0, 1]


def test_half_a_surrogate_pair_is_sent_escaped(teacher):
    code = "import sys, json\nfor l in sys.stdin: print('cat' if json.loads(l)['text'] == '\\ud800' else 'other')"
    assert TASK.decide(teacher(python(code))([Example("\ud800"), Example("é")])).tolist() == [0, 1]


@pytest.mark.parametrize(
    ("line", "rule"),
    [
        ("no-such-program --now", "cannot be run: No such file"),
        ("/", "cannot be run: Permission denied"),
        ("", "must name a program"),
        ("label 'it", "must be a command line: no closing quotation"),
        (python("raise SystemExit('out of order')"), "failed with status 1: out of order"),
        (python("raise SystemExit(3)"), "status 3: it wrote nothing to standard error"),
        (python("import os, signal; os.kill(os.getpid(), signal.SIGKILL)"), "was ended by SIGKILL"),
        (writes("cat\n"), "must write one line for each of 2 that it reads; it wrote 1"),
        (writes(""), "it wrote 0"),
        (writes("cat\nother\ncat\n"), "it wrote 3"),
        (writes("cat\n\n\n"), "it wrote 3"),
        (python("import sys; sys.stdout.buffer.write(b'cat\\ncaf\\xe9\\n')"), "must write UTF-8; line 2"),
        (writes("cat\ndog\n"), "value 'dog'.*line 2 of its output: must answer with cat, other or probabilities"),
        (writes('cat\n{"cat": 0.5\n'), "line 2 of its output: must answer with valid JSON"),
        (writes("[" * 5 + "\ncat\n"), "line 1 of its output: must answer with cat, other"),
        (python("print('{\"a\":' * 200_000); print('cat')"), "line 1 of its output: must answer with valid JSON"),
        (writes('{"cat": NaN, "other": 1}\ncat\n'), "finite numbers of at least 0"),
        (writes('{"cat": -1, "other": 2}\ncat\n'), "finite numbers of at least 0"),
        (writes('{"cat": 1e999}\ncat\n'), "finite numbers of at least 0"),
        (writes('{"cat": 1' + "0" * 400 + "}\ncat\n"), "finite numbers|sum above 0"),
        (writes('{"cat": "much"}\ncat\n'), "finite numbers of at least 0"),
        (writes('{"cat": 0, "other": 0}\ncat\n'), "with a sum above 0"),
        (writes('{"dog": 1}\ncat\n'), "must answer with cat, other"),
        (python("import sys\nwhile True: sys.stdout.write('x' * 65536)"), "wrote more than .* bytes.*was ended"),
        (python("import time; time.sleep(60)"), "took longer than 0.5 seconds"),
        (python("import os, time; os.close(1); os.close(2); time.sleep(60)"), "took longer than 0.5 seconds"),
        ("sh -c 'sleep 60 & echo cat; echo other'", "took longer than 0.5 seconds"),
    ],
)
def test_whatever_goes_wrong_is_told_in_one_line(teacher, line, rule):
    began = time.monotonic()
    with pytest.raises(BortError, match=f"(?s)^--teacher-command: .*{rule}") as told:
        teacher(line, timeout=0.5 if "seconds" in rule else 30.0)(TEXTS)
    assert "\n" not in str(told.value)
    assert time.monotonic() - began < 25


@pytest.mark.parametrize("line", ["nan", "inf", "much", '{"cat": 1}'])
def test_a_regression_asks_for_finite_numbers(teacher, line):
    with pytest.raises(BortError, match="line 2 of its output: must answer with a finite number"):
        teacher(writes(f"1\n{line}\n"), VALUES)(TEXTS)


def test_what_it_has_started_ends_with_it(teacher, tmp_path):
    file = tmp_path / "child"
    child = f"import os, time; open({str(file)!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    with pytest.raises(BortError, match="took longer"):
        teacher(python(code), timeout=2.0)(TEXTS)
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            os.kill(int(file.read_text()), 0)
            if Path(f"/proc/{file.read_text()}/stat").read_text().split()[2] == "Z":
                return  # ended, and nobody has asked how
        except (ProcessLookupError, FileNotFoundError):
            return
        time.sleep(0.05)
    pytest.fail("the child still runs")


def test_one_that_ends_before_it_has_read_all_may_have_answered(teacher):
    many = [Example("x" * 10_000 + str(place)) for place in range(200)]
    assert teacher(python("print('cat\\n' * 200, end='')"))(many).shape == (200, 2)


def counting(tmp_path, fails_at=None):
    """A command that notes how many lines it reads each time, and fails at a text."""
    code = f"""
import json, sys
rows = [json.loads(line)["text"] for line in sys.stdin]
open({str(tmp_path / "calls")!r}, "a").write(json.dumps(rows) + chr(10))
if {fails_at!r} in rows and not __import__("os").path.exists({str(tmp_path / "mended")!r}):
    raise SystemExit("broken")
print(chr(10).join("cat" for row in rows))
"""
    return python(code)


def calls(tmp_path):
    return [json.loads(line) for line in (tmp_path / "calls").read_text().splitlines()]


def test_an_answer_may_give_thousands_of_labels_a_probability(teacher):
    task = Classification(tuple(f"class {n} ☃" for n in range(4000)), "accuracy")
    code = f"import sys, json\nfor l in sys.stdin: print(json.dumps(dict.fromkeys({task.names}, 1 / 4001)))"
    says = teacher(python(code), task)([Example(str(place)) for place in range(15)])
    np.testing.assert_allclose(np.exp(says), 1 / 4000)


def test_it_is_asked_in_batches_and_of_each_text_once(teacher, tmp_path):
    many = [Example(str(place)) for place in (0, 1, 2, 3, 1, 4)]
    teacher(counting(tmp_path), batch=2)(many)
    assert calls(tmp_path) == [["0", "1"], ["2", "3"], ["4"]]
    teacher(counting(tmp_path), batch=2)([*many, Example("5")])
    assert calls(tmp_path)[3:] == [["5"]]


def test_finished_batches_are_kept_when_a_later_one_fails(teacher, tmp_path):
    many = [Example(str(place)) for place in range(4)]
    with pytest.raises(BortError, match="broken"):
        teacher(counting(tmp_path, "3"), batch=2)(many)
    (tmp_path / "mended").touch()
    teacher(counting(tmp_path, "3"), batch=2)(many)
    assert calls(tmp_path) == [["0", "1"], ["2", "3"], ["2", "3"]]


def test_another_task_or_command_has_other_answers(teacher, tmp_path):
    teacher(counting(tmp_path))(TEXTS)
    teacher(counting(tmp_path), Classification(("cat", "dog"), "accuracy"))(TEXTS)
    teacher(counting(tmp_path, "no text"))(TEXTS)
    assert len(calls(tmp_path)) == 3


@given(st.dictionaries(st.sampled_from(["a", "b", "c"]), st.floats(0, 1e6), min_size=1))
def test_shares_become_log_probabilities(shares):
    task = Classification(("a", "b", "c"), "accuracy")
    total = sum(shares.values())
    if total == 0:
        return
    row = answer_row(parsed_line(json.dumps(shares), task), task)
    np.testing.assert_allclose(np.exp(row), [shares.get(name, 0) / total for name in task.names], atol=1e-12)


@pytest.mark.parametrize(
    ("names", "answer", "row"),
    [
        (("false", "true"), np.bool_(True), [-np.inf, 0.0]),
        (("false", "true"), {True: 1, False: 0}, [-np.inf, 0.0]),
        (("True", "False"), True, [0.0, -np.inf]),
        (("1", "2"), 1.0, [0.0, -np.inf]),
        (("1", "2"), np.float32(2.0), [-np.inf, 0.0]),
        (("1", "2"), {1.0: np.float32(1.0), 2.0: np.int64(0)}, [0.0, -np.inf]),
        (("1.0", "2.0"), 1.0, [0.0, -np.inf]),
    ],
)
def test_answers_may_have_the_types_of_labels_in_python(names, answer, row):
    assert answer_row(answer, Classification(names, "accuracy")) == row


def test_several_labels_and_values_may_be_numpys():
    task = MultiLabel(("1", "2", "3"), "f1_micro")
    assert answer_row(np.array([1, 3]), task) == [np.inf, -np.inf, np.inf]
    assert answer_row({np.int64(2): np.float32(0.5)}, task) == [-np.inf, 0.0, -np.inf]
    assert answer_row(np.float32(0.5), VALUES) == [0.5]


def test_each_of_many_labels_is_found_without_a_search():
    class Names(tuple):
        def __contains__(self, name):
            pytest.fail("was searched")

    task = MultiLabel(Names("abc"), "f1_micro")
    assert answer_row({"a": 1, "b": 0.5}, task) == [np.inf, 0.0, -np.inf]
    assert answer_row(["a", "c"], task) == [np.inf, -np.inf, np.inf]


@given(st.text())
def test_any_line_is_an_answer_or_refused(line):
    try:
        row = answer_row(parsed_line(line, TASK), TASK)
    except ValueError:
        return
    assert len(row) == 2
