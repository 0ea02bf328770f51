"""Multilabel targets in scikit-learn's format: a matrix of 0 and 1 with one column per label."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bort.data.tables.objects import DataError


def indicators_of(y: Any, name: str) -> NDArray[np.int64] | None:
    """Convert `y` to a matrix of 0 and 1; None if it has one label per text.

    Args:
        y: An array, a sparse matrix, a DataFrame, or a list of rows.
        name: Name of `y` in messages.

    Returns:
        *Shape:* (texts, labels), with at least two labels.

    Raises:
        DataError: `y` has rows of several values, but they differ in length or are not all 0 or 1.
    """
    rows = isinstance(y, list | tuple) and bool(y) and all(isinstance(row, list | tuple | np.ndarray) for row in y)
    if len(getattr(y, "shape", ())) != 2 and not rows:
        return None
    try:
        matrix = np.asarray(y.toarray() if hasattr(y, "toarray") else y)
    except ValueError:  # rows of different lengths
        matrix = np.zeros(0)
    if matrix.ndim == 2 and matrix.shape[1] == 1:
        return None
    if matrix.ndim != 2 or not np.isin(matrix, [0, 1]).all():
        rule = "labels must be one a text, or a matrix of 0 and 1 with a column a label, as MultiLabelBinarizer makes"
        raise DataError(rule, file=name)
    return matrix.astype(np.int64)


def column_names(y: Any, count: int) -> NDArray[Any]:
    """Column names of a DataFrame, or numbers from 0. *Shape:* (labels,)."""
    columns = getattr(y, "columns", None)
    return np.arange(count) if columns is None else np.array([str(column) for column in columns])
