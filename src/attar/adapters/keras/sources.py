"""Data sets that TensorFlow wrote to disk."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from attar.errors import FormatError, UsageError


def saved(folder: Path) -> Iterator[Any]:
    """The elements of a folder that tf.data.Dataset.save wrote.

    What they are stands in a protocol buffer; nothing is unpickled. Raises FormatError, UsageError without TensorFlow.
    """
    try:
        import tensorflow
        from google.protobuf.message import DecodeError
    except ImportError:
        raise UsageError(
            f"data {str(folder)!r}: TensorFlow saved it, and reads it. It is not installed. Run: pip install "
            "'attar[tensorflow]'."
        ) from None
    try:
        yield from tensorflow.data.Dataset.load(str(folder))
    except (tensorflow.errors.OpError, DecodeError, ValueError, TypeError, AssertionError) as error:
        said = " ".join(str(error).split())[:200]
        raise FormatError(
            f"data {str(folder)!r}: it must be a whole data set of TensorFlow. Received: {said}."
        ) from None
