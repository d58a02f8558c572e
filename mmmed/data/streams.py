"""Streams: rows that come one after the other, with no length and no way back.

A cohort splits by patient and draws in another order in each epoch, so it needs all rows at hand. A stream is
therefore written once, some rows at a time, to an Arrow file that is then mapped: the disk grows with it, the
memory does not.
"""

from __future__ import annotations

import atexit
import shutil
import tempfile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import datasets

AT_ONCE = 256  # rows that are held until they are written: some pictures, not all


def landed(stream: datasets.IterableDataset) -> datasets.Dataset:
    """All rows of a stream as a mapped dataset, pictures as they came.

    The file lies in a temporary folder that goes when Python ends. Take a part of an endless stream first:
    `stream.take(100_000)`. Raises ValueError for a stream without a single row.
    """
    import datasets
    from datasets.exceptions import DatasetGenerationError

    rows = stream if stream.features is None else stream.decode(False)
    folder = tempfile.mkdtemp(prefix="mmmed-stream-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    try:
        return datasets.Dataset.from_generator(
            lambda: iter(rows),
            features=stream.features,
            cache_dir=folder,
            fingerprint=folder.rpartition("-")[2],  # two streams are never taken for the same
            writer_batch_size=AT_ONCE,
        )
    except ValueError as error:  # what datasets says of a part without rows
        raise ValueError("The stream holds no row. Nothing can be split, learned or tested.") from error
    except DatasetGenerationError as error:
        raise ValueError(f"The stream could not be written to disk: {error.__cause__ or error}.") from error
