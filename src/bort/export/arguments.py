"""Settings of `bort export`, for Python, the command line and `--config` files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from bort.bounds import Above, AtLeast, AtMost, NonNegativeFloat
from bort.data.tables.examples import Columns


@dataclass
class ExportArguments:
    """Arguments of `bort export`.

    Example:
        >>> ExportArguments("runs/mine", "fast").engine
        'auto'
    """

    model: str
    """fine-tuned classifier or regressor, or encoder (bort-nano, an output folder of pretrain, one of
    sentence-transformers): a folder or a hub name"""
    out: str
    """folder to write"""
    engine: Literal["auto", "onnxruntime", "openvino"] = "auto"
    """inference engine; auto: time each installed engine on the texts of --gate (or --calibrate), singly and in
    batches, and write the fastest that passes, or two if each is faster at some text lengths; without such texts ONNX
    Runtime; OpenVINO is an extra: pip install bort[openvino]"""
    precision: Literal["auto", "fp32", "int8"] = "auto"
    """auto: int8 if it passes the gate and is not slower on this machine, else, or without a gate, fp32; int8: fail if
    it does not pass the gate; the gate of an encoder is --min-cosine on the texts of --calibrate"""
    calibrate: str | None = None
    """texts (a file as for predict) that calibrate the activation ranges of int8; by default a quarter of the rows of
    --gate, which the gate then leaves out"""
    activations: Literal["auto", "calibrated", "dynamic"] = "auto"
    """activation scales of int8; calibrated: learned from texts; dynamic: computed for each text, so texts run one by
    one, which is slower for many at once; auto: calibrated if there are texts"""
    gate: str | None = None
    """labelled file on which both precisions are scored, by the metric that the model was fine-tuned for"""
    max_drop: NonNegativeFloat = 0.5
    """maximum loss of int8 in points of the score; the rows of --gate must show it with 95 % confidence"""
    min_cosine: Annotated[float, AtLeast(0), AtMost(1)] = 0.98
    """for an encoder: minimum mean cosine between its fp32 and int8 vectors, on a third of the texts of --calibrate,
    which then do not calibrate"""
    min_precision: Annotated[float, Above(0), AtMost(1)] | None = None
    """precision that each label must have on --gate: where the probability is too low for it, prediction gives no
    label"""
    text: str = "text"
    """column with the text"""
    text_b: str = "text_b"
    """column with the second text of a pair"""
    label: list[str] | str = "label"
    """column with the label or the list of labels; several names are 0/1 columns, one per label"""
    label_separator: str | None = None
    """separator of several labels in the label column, such as ; in a;b; an empty cell means no labels"""

    @property
    def columns(self) -> Columns:
        """Columns of the tables that hold the examples."""
        return Columns(self.text, self.text_b, self.label, label_separator=self.label_separator)
