"""A stream becomes a cohort like any other: the same rows, and nothing kept that a table would not keep."""

import io
import tracemalloc

import datasets
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import mmmed
from mmmed.data.presence import _filled

FEATURES = datasets.Features(
    {
        "image": datasets.Image(),
        "age": datasets.Value("float64"),
        "label": datasets.Value("int64"),
        "who": datasets.Value("string"),
    }
)
NAMED = {"image": "image", "tabular": ["age"], "target": "label", "group": "who"}
BYTES_AND_PATH = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def patients(count=24):
    for number in range(count):
        content = io.BytesIO()
        Image.new("L", (8, 8), 9 * number).save(content, "PNG")
        picture = {"bytes": content.getvalue(), "path": None} if number % 3 else None
        yield {"image": picture, "age": float(number), "label": number % 2, "who": f"p{number}"}


@pytest.fixture
def stream():
    return datasets.IterableDataset.from_generator(patients, FEATURES)


def test_a_stream_gives_the_cohort_that_its_rows_give_as_a_table(stream):
    table = datasets.Dataset.from_list(list(patients()), features=FEATURES)
    streamed, whole = (mmmed.Cohort.from_dataset(rows, **NAMED) for rows in (stream, table))
    assert streamed.schema == whole.schema
    np.testing.assert_array_equal(streamed.present, whole.present)
    assert [record.inputs for record in streamed] == [record.inputs for record in whole]


def test_a_stream_may_be_cut_and_may_not_know_its_columns():
    unknown = datasets.IterableDataset.from_generator(patients)
    assert len(mmmed.Cohort.from_dataset(unknown.take(10), **NAMED)) == 10


def test_two_streams_of_one_function_are_not_taken_for_each_other():
    lengths = [
        len(
            mmmed.Cohort.from_dataset(
                datasets.IterableDataset.from_generator(patients, FEATURES, gen_kwargs=own), **NAMED
            )
        )
        for own in ({"count": 12}, {"count": 18})
    ]
    assert lengths == [12, 18]


def test_an_empty_or_broken_stream_is_answered_with_a_sentence(stream):
    with pytest.raises(ValueError, match="holds no row"):
        mmmed.Cohort.from_dataset(stream.take(0), **NAMED)

    def broken():
        yield next(patients())
        raise OSError("the line went dead")

    with pytest.raises(ValueError, match="the line went dead"):
        mmmed.Cohort.from_dataset(datasets.IterableDataset.from_generator(broken, FEATURES), **NAMED)


PART = st.one_of(st.none(), st.sampled_from(["", "a.png"]))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.none(),
            st.fixed_dictionaries({"bytes": st.one_of(st.none(), st.binary(max_size=2)), "path": PART}),
        ),
        min_size=1,
    )
)
def test_what_is_there_of_a_struct_is_what_a_look_at_each_row_finds(rows):
    cells = pa.chunked_array([pa.array(rows[:2], BYTES_AND_PATH), pa.array(rows[2:], BYTES_AND_PATH)])
    slow = [row is not None and any(part is not None and part != "" for part in row.values()) for row in rows]
    assert _filled(cells).tolist() == slow


def test_embedded_pictures_are_not_copied_when_a_cohort_is_opened():
    rows = pa.chunked_array([pa.array([{"bytes": b"x" * 1_000_000, "path": None}] * 8, BYTES_AND_PATH)])
    tracemalloc.start()
    try:
        assert _filled(rows).all()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1_000_000
