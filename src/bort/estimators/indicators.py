"""Multilabel targets in scikit-learn's format: a matrix of 0 and 1 with one column per label."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bort.data.tables.objects import DataError, column_values


def indicators_of(y: Any, name: str) -> NDArray[np.int64] | None:
    """Convert `y` to a matrix of 0 and 1; None if it has one label per text.

    Args:
        y: An array, a sparse matrix, a DataFrame, or a list or column of rows.
        name: Name of `y` in messages.

    Returns:
        *Shape:* (texts, labels), with at least two labels.

    Raises:
        DataError: `y` has rows of several values, but they differ in length or are not all 0 or 1.
    """
    if len(getattr(y, "shape", ())) != 2:
        if not isinstance(y, list | tuple):
            y = column_values(y) if hasattr(y, "__array__") else ()  # a column of lists
        if not y or not all(isinstance(row, list | tuple | np.ndarray) for row in y):
            return None
    try:
        matrix = np.asarray(y.toarray() if hasattr(y, "toarray") else y)
    except ValueError:  # rows of different lengths
        matrix = np.zeros(0)
    if matrix.ndim == 2 and matrix.shape[1] == 1:
        return None
    if matrix.ndim != 2 or not _is_binary(matrix):
        rule = "labels must be one a text, or a matrix of 0 and 1 with a column a label, as MultiLabelBinarizer makes"
        raise DataError(rule, file=name)
    return matrix.astype(np.int64)


def _is_binary(matrix: NDArray[Any]) -> bool:
    try:
        return bool(np.isin(matrix, [0, 1]).all())
    except TypeError:  # pandas' NA cannot be compared
        return False


def column_names(y: Any) -> NDArray[np.str_] | None:
    """Column names of a table of pandas, polars or pyarrow; None if `y` has no names. *Shape:* (labels,)."""
    # The `columns` of pyarrow are their contents.
    columns = y.column_names if hasattr(type(y), "column_names") else getattr(y, "columns", None)
    return None if columns is None else np.array([str(column) for column in columns])


def in_order(y: Any, classes: NDArray[Any], name: str) -> NDArray[np.int64]:
    """Convert `y` to a matrix of 0 and 1 with a column for each class, by the columns' names if both have names.

    Args:
        y: See `indicators_of`.
        classes: Names of the columns in the fit, or their numbers if they had no names.
        name: Name of `y` in messages.

    Raises:
        DataError: `y` is no such matrix, or has other columns than in the fit.
    """
    matrix, names = indicators_of(y, name), column_names(y)
    if matrix is None or matrix.shape[1] != len(classes):
        raise DataError(f"must be a matrix of 0 and 1 with {len(classes)} columns, as in fit", file=name)
    if names is None or classes.dtype.kind != "U":
        return matrix
    if sorted(names) != sorted(classes):
        rule = f"must have the columns that the fit had: {', '.join(classes)}"
        raise DataError(rule, file=name, value=", ".join(names))
    return matrix[:, [names.tolist().index(label) for label in classes.tolist()]]
