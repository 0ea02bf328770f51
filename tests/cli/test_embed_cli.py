"""`bort embed`: order, columns, formats, and nothing half-written; and `bort export` of an encoder."""

from __future__ import annotations

import json
import tracemalloc
from datetime import date
from decimal import Decimal

import numpy as np
import pytest

from bort.cli.embed import EmbedArguments, embed
from bort.data.tables.vector_writer import vector_writer
from bort.errors import BortError
from bort.predict.encoder import Encoder
from bort.predict.manifest import read_manifest


def lines(texts) -> bytes:
    return "".join(f"{text}\n" for text in texts).encode()


@pytest.fixture(scope="module")
def expected(teacher_folder, sentences):
    return Encoder(teacher_folder).encode(sentences[:40])


def test_standard_input_to_json_lines(bort, teacher_folder, sentences, expected):
    done = bort("embed", "--model", teacher_folder, "--output", "-", stdin=lines(sentences[:40]))
    assert (done.status, done.err) == (0, "")
    assert [row["text"] for row in done.rows()] == sentences[:40]
    np.testing.assert_allclose([row["embedding"] for row in done.rows()], expected, atol=1e-5)


def test_a_table_to_parquet_keeps_its_columns(bort, teacher_folder, sentences, expected, tmp_path):
    pyarrow = pytest.importorskip("pyarrow.parquet")
    rows = [{"id": n, "note": None if n < 20 else "x", "text": t} for n, t in enumerate(sentences[:40])]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    out = tmp_path / "out.parquet"
    done = bort("embed", tmp_path / "in.jsonl", "--model", teacher_folder, "--output", out,
                "--batch-size", 7, "--normalize", "yes", "--column", "vector")  # fmt: skip
    assert done.status == 0, done.err
    table = pyarrow.read_table(out)
    assert table.column_names == ["id", "note", "text", "vector"]
    assert table.drop_columns(["vector"]).to_pylist() == rows
    found = np.array(table["vector"].to_pylist(), np.float32)
    np.testing.assert_allclose(found, expected / np.linalg.norm(expected, axis=1, keepdims=True), atol=1e-5)


@pytest.mark.parametrize("count", [0, 3])
def test_a_parquet_input_states_its_types(bort, teacher_folder, tmp_path, count):
    """The first rows may not show them: they have nulls, empty lists and small numbers."""
    parquet = pytest.importorskip("pyarrow.parquet")
    import pyarrow

    number, decimal = pyarrow.int64(), pyarrow.decimal128(10, 2)
    columns = {
        "text": ["a cat", "a dog", "a cow"],
        "rating": pyarrow.array([None, None, 3], number),
        "day": pyarrow.array([None, None, date(2024, 2, 29)]),
        "at": pyarrow.array([None, None, 1], pyarrow.timestamp("us", "Europe/Berlin")),
        "tags": pyarrow.array([[], None, ["x"]]),
        "place": pyarrow.array([{"x": None}, None, {"x": 3}], pyarrow.struct({"x": number})),
        "counts": pyarrow.array([[], None, [("x", 3)]], pyarrow.map_(pyarrow.string(), number)),
        "price": pyarrow.array([None, Decimal("1.00"), Decimal("12345678.25")], decimal),
        "hash": pyarrow.array([1, 2, 2**64 - 1], pyarrow.uint64()),
        "error": pyarrow.nulls(3),
        "kind": pyarrow.array(["x", None, "y"]).dictionary_encode(),
    }
    parquet.write_table(pyarrow.table(columns).slice(0, count), given := tmp_path / "in.parquet")
    done = bort("embed", given, "--model", teacher_folder, "--output", tmp_path / "out.parquet", "--batch-size", 1)
    assert done.status == 0, done.err
    expected, found = parquet.read_table(given), parquet.read_table(tmp_path / "out.parquet")
    found = found.drop_columns(["embedding"])
    error = expected.column_names.index("error")
    assert found.schema.equals(expected.schema.set(error, pyarrow.field("error", pyarrow.string())))
    assert found.to_pylist() == expected.to_pylist()


@pytest.mark.parametrize("count", [0, 1, 40])
def test_an_array(bort, teacher_folder, sentences, expected, tmp_path, count):
    out = tmp_path / "out.npy"
    done = bort("embed", "--model", teacher_folder, "--output", out, "--batch-size", 9, stdin=lines(sentences[:count]))
    assert done.status == 0, done.err
    found = np.load(out)
    assert (found.shape, found.dtype) == ((count, 12), np.float32)
    np.testing.assert_allclose(found, expected[:count], atol=1e-5)


def test_second_texts_are_not_read(bort, teacher_folder, tmp_path):
    rows = [{"text": "a cat", "text_b": 3}, {"text": "a dog", "text_b": "x\0"}]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    found = bort("embed", tmp_path / "in.jsonl", "--model", teacher_folder, "--output", "-").rows()
    assert [{"text": row["text"], "text_b": row["text_b"]} for row in found] == rows


def test_a_bad_row_leaves_what_was_there(bort, teacher_folder, tmp_path):
    for name in ("out.npy", "out.parquet"):
        (tmp_path / name).write_text("earlier")
        (tmp_path / "in.jsonl").write_text('{"text": "a"}\n{"text": 3}\n')
        done = bort("embed", tmp_path / "in.jsonl", "--model", teacher_folder, "--output", tmp_path / name)
        done.refused("in.jsonl:2", "must be a string")
        assert (tmp_path / name).read_text() == "earlier"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["in.jsonl", "out.npy", "out.parquet"]


def test_mistakes(bort, teacher_folder, classifier, tmp_path):
    bort("embed", "--model", teacher_folder, "--output", "x.csv").refused("x.csv", ".parquet, .npy")
    bort("embed", "--model", teacher_folder, "--output", "s3://b/x.npy").refused("--output", "s3://b/x.npy", "address")
    bort("index", __file__, "--out", "s3://b/x").refused("--out", "s3://b/x", "not an address")
    bort("embed", "--model", "./none", "--output", "x.npy").refused("./none", "no such folder")
    bort("predict", "--model", "bort-nano", stdin=b"a\n").refused("bort-nano", "is no classifier")
    done = bort(
        "export", "--model", teacher_folder, "--out", tmp_path / "o", "--min-precision", 0.9, "--gate", __file__
    )
    assert done.status == 2


def test_a_column_of_two_types_is_told_of(tmp_path):
    pytest.importorskip("pyarrow")

    def written() -> None:
        with vector_writer(str(tmp_path / "x.parquet"), 2) as write:
            write([{"id": 1}], np.zeros((1, 2), np.float32))
            write([{"id": "b"}], np.zeros((1, 2), np.float32))

    with pytest.raises(BortError, match=r"'id': must hold values of one type"):
        written()
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize(
    ("batches", "message"),
    [
        ([[{"id": 1}], [{"id": 2, "late": 3}]], "'late': first occurs after the file was begun; JSON lines"),
        (
            [[{"a": {"b": 1}}], [{"a": {"c": 1}}]],
            "'a': value 'c': has a key that first occurs after the file was begun",
        ),
        ([[{"a": [{"b": {"c": 1}}]}], [{"a": [{"b": {"d": 1}}]}]], "'a': value 'd': has a key that first occurs after"),
        ([[{"id": 2**63}]], "'id': must hold integers of at most 64 bits; JSON lines"),
        ([[{"id": 1}], [{"id": -(2**63) - 1}]], "'id': must hold integers of at most 64 bits"),
        ([[{"meta": {}}]], "must hold values that Parquet has a type for .*'meta'.*; JSON lines"),
    ],
)
def test_what_parquet_cannot_hold_is_told_of(tmp_path, batches, message):
    pytest.importorskip("pyarrow")

    def written() -> None:
        with vector_writer(str(tmp_path / "x.parquet"), 2) as write:
            for rows in batches:
                write(rows, np.zeros((len(rows), 2), np.float32))

    with pytest.raises(BortError, match=message):
        written()
    assert not [*tmp_path.iterdir()]


def test_memory_does_not_grow_with_the_input(teacher_folder, sentences, tmp_path):
    def peak(times: int) -> int:
        (tmp_path / "in.txt").write_bytes(lines(sentences[:50] * times))
        tracemalloc.start()
        arguments = EmbedArguments(teacher_folder, str(tmp_path / "out.npy"), str(tmp_path / "in.txt"), batch_size=50)
        assert embed(arguments).rows == 50 * times
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    peak(1)
    assert peak(20) < 1.5 * peak(4)


def test_an_encoder_is_exported_in_int8_where_its_vectors_stay(bort, teacher_folder, sentences, tmp_path):
    texts = tmp_path / "texts.txt"
    texts.write_bytes(lines(sentences[:60]))
    asked = ("export", "--model", teacher_folder, "--calibrate", texts, "--precision", "int8")
    done = bort(*asked, "--out", tmp_path / "good", "--min-cosine", 0.5)
    assert done.status == 0, done.err
    metrics = json.loads((tmp_path / "good" / "metrics.json").read_text())
    assert (metrics["precision"], metrics["cosine"]["texts"]) == ("int8", 20)
    assert metrics["cosine"]["mean"] > 0.5
    assert metrics["off_pytorch"] < 1e-5
    assert read_manifest(tmp_path / "good").encoder.size == 12
    assert "a mean cosine of" in done.err
    refused = bort(*asked, "--out", tmp_path / "bad", "--min-cosine", 1)
    assert (refused.status, refused.out) == (2, "")
    assert "Nothing is written; lower --min-cosine" in refused.err
    assert not (tmp_path / "bad").exists()
    (tmp_path / "gate.jsonl").write_text('{"text": "a", "label": "x"}\n{"text": "b", "label": "y"}\n')
    gated = bort(*asked, "--out", tmp_path / "bad", "--gate", tmp_path / "gate.jsonl")
    assert (gated.status, "--gate" in gated.err, "this is an encoder" in gated.err) == (2, True, True)


BAD = b'{"id": "1", "text": "a cat"}\n2\n{"id": "3", "text": "a dog"}\n{"id": "4", "text": 4}\n'


@pytest.mark.parametrize("size", [1, 3, 256])
def test_rows_that_cannot_be_read(bort, teacher_folder, tmp_path, size):
    """As of `bort predict`: they end the job, are left out, or stay without a vector."""
    given = tmp_path / "in.jsonl"
    given.write_bytes(BAD)
    words = ["embed", given, "--model", teacher_folder, "--batch-size", size, "--output"]
    bort(*words, tmp_path / "o.npy").refused(f"{given}:2")
    done = bort(*words, tmp_path / "o.npy", "--on-error", "skip")
    assert done.status == 0, done.err
    assert f"rows that cannot be read, left out: 2, see {tmp_path}/o.npy.errors.jsonl" in done.err
    expected = Encoder(teacher_folder).encode(["a cat", "a dog"])
    np.testing.assert_allclose(np.load(tmp_path / "o.npy"), expected, atol=1e-5)
    kept = [json.loads(line) for line in (tmp_path / "o.npy.errors.jsonl").read_text("utf-8").splitlines()]
    assert [row["line"] for row in kept] == [2, 4]
    rows = bort(*words, "-", "--on-error", "label").rows()
    assert [row["embedding"] is None for row in rows] == [False, True, False, True]
    assert [row["error"] is None for row in rows] == [True, False, True, False]
    np.testing.assert_allclose([rows[0]["embedding"], rows[2]["embedding"]], expected, atol=1e-5)
    bort(*words, tmp_path / "p.npy", "--on-error", "label").refused("--on-error", ".parquet")
    bort(*words, tmp_path / "p.npy", "--errors", "x").refused("--errors", "--on-error skip")


def test_what_an_earlier_run_could_not_read_is_removed(bort, teacher_folder, tmp_path):
    (tmp_path / "o.npy.errors.jsonl").write_text("{}\n")
    words = ["embed", "--model", teacher_folder, "--output", tmp_path / "o.npy", "--on-error", "skip"]
    assert bort(*words, stdin=b"a cat\n").status == 0
    assert [file.name for file in tmp_path.iterdir()] == ["o.npy"]


def test_an_input_is_replaced_only_by_all_of_its_rows(bort, teacher_folder, tmp_path):
    file = tmp_path / "a.jsonl"
    file.write_text('{"text": "a", "n": 1}\n')
    words = ["embed", file, "--model", teacher_folder, "--output"]
    bort(*words, file, "--on-error", "skip").refused("--output", "would replace a file that this command reads")
    bort(*words, tmp_path / "b.jsonl", "--on-error", "skip", "--errors", file).refused("--errors", "would replace")
    assert file.read_text() == '{"text": "a", "n": 1}\n'
    assert bort(*words, file).status == 0
    assert json.loads(file.read_text())["n"] == 1


def test_a_row_without_a_vector_is_null_in_parquet(bort, teacher_folder, tmp_path):
    pyarrow = pytest.importorskip("pyarrow.parquet")
    (tmp_path / "in.csv").write_text("text,id\na,1\nb,c,2\nd,3\n")
    out = tmp_path / "o.parquet"
    done = bort("embed", tmp_path / "in.csv", "--model", teacher_folder, "--output", out, "--on-error", "label")
    assert done.status == 0, done.err
    table = pyarrow.read_table(out)
    assert [vector is None for vector in table["embedding"].to_pylist()] == [False, True, False]
    assert [error is None for error in table["error"].to_pylist()] == [True, False, True]
