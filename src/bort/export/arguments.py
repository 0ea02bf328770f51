"""The settings of an export; the command line and `--config` files are views of these."""

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
    """a fine-tuned classifier or regressor, or an encoder (bort-nano, what pretrain writes, one of
    sentence-transformers): a folder or a hub name"""
    out: str
    """folder to write"""
    engine: Literal["auto", "onnxruntime", "openvino"] = "auto"
    """what shall run the model. auto: each engine that is installed answers the texts of --gate (or --calibrate) as it
    will be asked, and the fastest that passes is written, or two of which each computes the lengths that it is faster
    at; without such texts ONNX Runtime. OpenVINO is an extra: pip install bort[openvino]"""
    precision: Literal["auto", "fp32", "int8"] = "auto"
    """auto: int8 where it passes the gate and is not slower on this machine; else, or without a gate, fp32. int8:
    refused where it does not pass the gate. The gate of an encoder is --min-cosine on the texts of --calibrate"""
    calibrate: str | None = None
    """texts (a file as of predict) from which int8 learns the ranges of its activations; by default a quarter of the
    rows of --gate, which then do not judge"""
    activations: Literal["auto", "calibrated", "dynamic"] = "auto"
    """of int8: calibrated: scales are learned from texts; dynamic: they are taken from each text anew, so texts are
    computed one by one, which is slower for many at once; auto: calibrated where there are texts"""
    gate: str | None = None
    """labelled file on which both precisions are scored by the metric that the model was fine-tuned for"""
    max_drop: NonNegativeFloat = 0.5
    """most points of the score that int8 may lose; the rows of --gate must show it with 95 % confidence"""
    min_cosine: Annotated[float, AtLeast(0), AtMost(1)] = 0.98
    """of an encoder: least mean cosine between its vectors in fp32 and in int8, on a third of the texts of --calibrate,
    which then do not calibrate"""
    min_precision: Annotated[float, Above(0), AtMost(1)] | None = None
    """share of each label's answers on --gate that must be right: below the probability at which they are, prediction
    gives no label"""
    text: str = "text"
    """name of the column with the text"""
    text_b: str = "text_b"
    """name of the column with the second text of a pair"""
    label: list[str] | str = "label"
    """name of the column with the label, or with the list of all labels; several names are columns of 0 and 1, one for
    each label of a text that may have several"""
    label_separator: str | None = None
    """what stands between several labels in the label's column, as ; in a;b; a blank cell is a text without labels"""

    @property
    def columns(self) -> Columns:
        """Where its tables keep their examples."""
        return Columns(self.text, self.text_b, self.label, label_separator=self.label_separator)
