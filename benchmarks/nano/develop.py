"""Quality of an encoder's frozen features on development data, with its mean and with its first token.

    python -m benchmarks.nano.develop --data ../shared/data FOLDER…

Logistic regression (ridge regression if the labels are numbers) is fitted to the training rows and scored on the
development rows, with one C for all tasks (10) and with the best of a few. Test files are not read. Pairs are read in
two ways: each text alone (features a, b, |a - b|, a · b), and joined, as a cross-encoder reads them (pooled first
token).
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import pearsonr
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.preprocessing import StandardScaler
from torch.nn import functional as F
from transformers import AutoModel, AutoTokenizer

SCARCE = ("sst2", "trec", "banking12", "mrpc", "rte")
CHOOSE = ("agnews", "offensive", "qnli", "stsb")
_C = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
_USUAL_C = 10.0
Features = NDArray[np.float32]


class Reader:
    """Encodes texts with a model folder, in padded batches sorted by length."""

    def __init__(self, folder: str) -> None:
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.model: Any = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()

    @torch.inference_mode()
    def read(self, *sides: list[str]) -> dict[str, Features]:
        """Mean, first token and pooled first token of texts or joined pairs. *Shape:* (texts, H) each."""
        texts = list(zip(*sides, strict=True))
        order = sorted(range(len(texts)), key=lambda n: -sum(map(len, texts[n])))
        made: dict[str, Features] = {}
        for start in range(0, len(order), 64):
            part = order[start : start + 64]
            columns = [[texts[n][side] for n in part] for side in range(len(sides))]
            batch = self.tokenizer(*columns, truncation=True, max_length=256, padding=True, return_tensors="pt")
            out = self.model(**batch)
            hidden, mask = out.last_hidden_state, batch["attention_mask"].unsqueeze(-1)
            vectors = {"mean": (hidden * mask).sum(1) / mask.sum(1), "first": hidden[:, 0]}
            if out.get("pooler_output") is not None:
                vectors["pooled"] = out.pooler_output
            for name, vector in vectors.items():
                if name not in made:
                    made[name] = np.zeros((len(texts), vector.shape[1]), dtype=np.float32)
                made[name][part] = (vector if name == "pooled" else F.normalize(vector, dim=-1)).numpy()
        return made


def rows(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text("utf-8").splitlines() if line.strip()]


def features(reader: Reader, examples: list[dict[str, Any]]) -> dict[str, Features]:
    a = reader.read([row["text"] for row in examples])
    if "text_b" not in examples[0]:
        return {name: a[name] for name in ("mean", "first")}
    second = [row["text_b"] for row in examples]
    b = reader.read(second)
    made = {
        name: np.hstack([a[name], b[name], np.abs(a[name] - b[name]), a[name] * b[name]]) for name in ("mean", "first")
    }
    return made | {"joined": reader.read([row["text"] for row in examples], second)["pooled"]}


def score(train: Features, y: list[Any], dev: Features, z: list[Any], c: float, numbers: bool) -> float:
    if numbers:
        scaler = StandardScaler().fit(train)
        model = Ridge(alpha=train.shape[1] / c).fit(scaler.transform(train), np.array(y, dtype=float))
        return 100 * float(pearsonr(model.predict(scaler.transform(dev)), np.array(z, dtype=float))[0])
    return 100 * float(LogisticRegression(C=c, max_iter=3000).fit(train, y).score(dev, z))


def develop(folder: str, data: Path) -> dict[str, dict[str, float]]:
    """For `mean`, `first`, `joined`: the score with C = 10 by task, the best over C as `task*`, and means of those."""
    reader, table = Reader(folder), {}
    for group, tasks in (("scarce", SCARCE), ("choose", CHOOSE)):
        for task in tasks:
            train, dev = (rows(data / group / task / f"{part}.jsonl") for part in ("train", "dev"))
            made, other = features(reader, train), features(reader, dev)
            y, z = ([row["label"] for row in part] for part in (train, dev))
            for name in made:
                by_c = {c: score(made[name], y, other[name], z, c, task == "stsb") for c in _C}
                line = table.setdefault(name, {})
                line[task], line[f"{task}*"] = by_c[_USUAL_C], max(by_c.values())
    for line in table.values():
        for group, tasks in (("scarce", SCARCE), ("choose", CHOOSE)):
            for star in ("", "*"):
                if all(task in line for task in tasks):
                    line[f"{group}{star}"] = sum(line[task + star] for task in tasks) / len(tasks)
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("folders", nargs="+")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for folder in arguments.folders:
        for name, line in develop(folder, arguments.data).items():
            print(
                f"{Path(folder).name} {name}: " + " ".join(f"{key} {value:.1f}" for key, value in line.items()),
                flush=True,
            )


if __name__ == "__main__":
    main()
