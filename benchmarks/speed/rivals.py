"""The rivals of our own engines: text in, answer out, as a user would run them."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

Answer = Callable[[Sequence[str]], Any]
LABELS = 2
OTHER_PYTHON = """
import json, sys
import numpy
from sentence_transformers import SentenceTransformer
model = SentenceTransformer(sys.argv[1], backend="onnx", model_kwargs={"provider": "CPUExecutionProvider"})
head = numpy.random.default_rng(0).standard_normal((model.get_sentence_embedding_dimension(), 2), "float32")
print("ready", flush=True)
for line in sys.stdin:
    answers = (model.encode(json.loads(line), show_progress_bar=False) @ head).argmax(-1)
    print(len(answers), flush=True)
"""


def texts_of(lengths: Sequence[int]) -> list[str]:
    """Sentences of these lengths, of English words with about one token each; always the same for the same lengths."""
    from bort.model.checkpoints import unpacked

    described = json.loads((Path(unpacked("bort-nano")) / "tokenizer.json").read_text("utf-8"))
    words = sorted(word for word in described["model"]["vocab"] if word.isascii() and word.isalpha() and len(word) > 2)
    rng = np.random.default_rng(0)
    return [" ".join(words[place] for place in rng.integers(0, len(words), max(1, n - 2))) for n in lengths]


def eager(folder: Path) -> Answer:
    """PyTorch in eager fp32, as in a paper: padded batches of similar length."""
    import torch

    from bort.data.batches import token_budget_batches
    from bort.data.tables.examples import Example
    from bort.model.tokenization import load_tokenizer
    from bort.predict.classifiers import load_classifier, tensors
    from bort.predict.costs import MOST_TOKENS
    from bort.predict.encoding import encode

    model: Any = load_classifier(str(folder), ours=False)[0]
    model.set_attn_implementation("eager")
    tokenizer = load_tokenizer(folder)
    tokenizer.model_input_names = ["input_ids", "attention_mask"]

    def answer(texts: Sequence[str]) -> None:
        encoded = encode([Example(text) for text in texts], tokenizer, 512)
        with torch.inference_mode():
            for batch in token_budget_batches(encoded.lengths, max_tokens=MOST_TOKENS, max_rows=MOST_TOKENS):
                model(**tensors(encoded.batch(batch, int(tokenizer.pad_token_id)))).logits.argmax(-1)

    return answer


def static(folder: Path) -> Answer:
    """A static model of model2vec, with its own library, and a linear head on its vectors."""
    from model2vec import StaticModel

    model = StaticModel.from_pretrained(str(folder))
    head = np.random.default_rng(0).standard_normal((model.dim, LABELS), np.float32)
    return lambda texts: (np.asarray(model.encode(list(texts))) @ head).argmax(-1)


def sentence_transformers(python: Path, folder: Path) -> Answer:
    """sentence-transformers' ONNX backend and a linear head, in another environment: its libraries conflict with ours.

    Only the texts and a number pass between the processes, which takes some tens of microseconds.

    Args:
        python: Interpreter of an environment with `sentence-transformers[onnx]`.
        folder: Folder of an encoder.
    """
    words = [str(python), "-c", OTHER_PYTHON, str(folder)]
    process = subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    asked, answered = process.stdin, process.stdout
    assert asked is not None
    assert answered is not None

    def line() -> str:
        if not (told := answered.readline()):
            raise RuntimeError(f"{python} has ended with {process.wait()}")
        return told.strip()

    while line() != "ready":
        pass

    def answer(texts: Sequence[str]) -> int:
        asked.write(json.dumps(list(texts)) + "\n")
        asked.flush()
        return int(line())

    return answer


def tf_idf(texts: Sequence[str]) -> Answer:
    """TF-IDF and logistic regression, fitted to some texts with meaningless labels."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    fitted = make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(texts, np.arange(len(texts)) % LABELS)
    return lambda asked: fitted.predict(list(asked))
