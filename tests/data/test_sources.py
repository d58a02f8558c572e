"""Tables become Arrow without a cell changing its meaning on the way."""

import warnings

import datasets
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmmed.data.cohort import Cohort
from mmmed.data.sources import read_columns, read_dataset, read_frame, read_rows, read_table


def table(folder, text, name="table.csv"):
    path = folder / name
    path.write_bytes(text.encode("utf-8") if isinstance(text, str) else text)
    return path


def cells(source, column):
    return source.arrow.column(column).to_pylist()


def test_every_cell_of_a_csv_stays_text_and_only_the_empty_one_is_missing(tmp_path):
    path = table(tmp_path, "id,a\n3e461592,no\n09258248,none\n1880e301,NA\n007,\n008,nan\n")
    source = read_table(path)
    assert cells(source, "id") == ["3e461592", "09258248", "1880e301", "007", "008"]
    assert cells(source, "a") == ["no", "none", "NA", None, "nan"]


def test_other_words_for_missing_can_be_named_exactly(tmp_path):
    source = read_table(table(tmp_path, "a,b\nNA,na\n,x\n"), missing=["NA"])
    assert cells(source, "a") == [None, None]
    assert cells(source, "b") == ["na", "x"]


def test_byte_order_mark_windows_line_ends_and_quoted_line_ends_are_read(tmp_path):
    text = b'\xef\xbb\xbfid,note\r\n1,"two\r\nlines, and a ""word"""\r\n2,""\r\n'
    source = read_table(table(tmp_path, text))
    assert source.columns == ("id", "note")
    assert cells(source, "note") == ['two\r\nlines, and a "word"', None]


@pytest.mark.parametrize("mark", [";", "\t", ","])
def test_the_delimiter_is_the_one_the_header_uses(tmp_path, mark):
    assert cells(read_table(table(tmp_path, f"a{mark}b\n1{mark}2\n")), "b") == ["2"]


def test_a_compressed_csv_is_the_same_table(tmp_path):
    import gzip

    path = tmp_path / "table.csv.gz"
    path.write_bytes(gzip.compress(b"id,a\n01,x\n"))
    assert cells(read_table(path), "id") == ["01"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        ("a,b\n", "holds no rows"),
        ("a,b,a\n1,2,3\n", "more than one column named 'a'"),
        ("a,,b\n1,2,3\n", "without a name, at place 2"),
        ("a,b\n1,2,3\n", "as many cells as the header"),
        (b"a,b\n1,\xff\xfe\n", "UTF-8"),
    ],
)
def test_what_is_no_table_is_refused_with_the_reason(tmp_path, text, words):
    with pytest.raises(ValueError, match=words):
        read_table(table(tmp_path, text))


def test_a_table_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"no file.*nothing\.csv"):
        read_table(tmp_path / "nothing.csv")


def test_parquet_keeps_its_types_and_broken_parquet_is_a_value_error(tmp_path):
    import pyarrow.parquet

    pyarrow.parquet.write_table(pa.table({"a": [1.5, None], "p": [["x", "y"], None]}), tmp_path / "t.parquet")
    source = read_table(tmp_path / "t.parquet")
    assert cells(source, "p") == [["x", "y"], None]
    with pytest.raises(ValueError, match="not a parquet table"):
        read_table(table(tmp_path, "no", "broken.parquet"))


def test_nothing_is_written_beside_the_table_or_into_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    source = read_table(table(tmp_path, "a\n1\n"))
    assert source.table.cache_files == []
    assert sorted(item.name for item in tmp_path.iterdir()) == ["table.csv"]


def test_every_spelling_of_missing_in_a_frame_is_null():
    frame = pd.DataFrame(
        {
            "a": [1.0, None, np.nan],
            "b": pd.array([1, pd.NA, 3], "Int64"),
            "c": pd.to_datetime(["2020-01-01", None, None]),
        }
    )
    frame["d"] = pd.Series(["x", None, np.nan], dtype=object)
    source = read_frame(frame)
    assert [source.arrow.column(name).null_count for name in source.columns] == [2, 1, 2, 2]


def test_a_named_index_is_a_column_and_the_frame_stays_as_it_was():
    frame = pd.DataFrame({"a": [1, 2]}, index=pd.Index(["x", "y"], name="id"))
    assert cells(read_frame(frame), "id") == ["x", "y"]
    assert list(frame.columns) == ["a"]


def test_paths_lists_and_arrays_may_stand_in_object_columns(tmp_path):
    picture = np.zeros((4, 5), np.uint8)
    rows = [
        {
            "p": tmp_path / "a.png",
            "views": [tmp_path / "a.png", None],
            "array": picture,
            "two": [picture, picture],
        },
        {"p": None, "views": None, "array": None, "two": None},
    ]
    source = read_rows(rows)
    assert cells(source, "p") == [str(tmp_path / "a.png"), None]
    assert cells(source, "views") == [[str(tmp_path / "a.png"), None], None]
    got = source.fetch(np.array([1, 0]), ["array", "two", "p"])
    assert got["array"][0] is None
    assert got["array"][1] is picture
    assert len(got["two"][1]) == 2


def test_stacked_arrays_are_rows_of_pictures():
    pictures = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    got = read_columns({"x": pictures}).fetch(np.array([1]), ["x"])["x"][0]
    assert np.array_equal(got, pictures[1])


def test_arrays_and_paths_in_one_column_are_refused():
    with pytest.raises(ValueError, match="Use one form"):
        read_rows([{"x": np.zeros((2, 2))}, {"x": "a.png"}])


def test_numbers_and_text_in_one_column_become_text():
    assert cells(read_rows([{"x": 1}, {"x": "<5"}, {"x": 2.5}]), "x") == ["1", "<5", "2.5"]


def test_a_dataset_dict_becomes_one_table_with_a_split():
    parts = {
        "train": datasets.Dataset.from_dict({"a": [1, 2]}),
        "validation": datasets.Dataset.from_dict({"a": [3]}),
        "test": datasets.Dataset.from_dict({"a": [4]}),
    }
    source, split = read_dataset(datasets.DatasetDict(parts))
    assert split == "split"
    assert cells(source, "split") == ["train", "train", "val", "test"]
    with pytest.raises(ValueError, match="Unknown split"):
        read_dataset(datasets.DatasetDict({"somewhere": parts["train"]}))


def test_selected_rows_and_class_labels_of_a_dataset_keep_their_meaning():
    features = datasets.Features(
        {"x": datasets.Value("int64"), "y": datasets.ClassLabel(names=["no", "yes"])}
    )
    data = datasets.Dataset.from_dict({"x": [1, 2, 3], "y": [0, 1, -1]}, features=features)
    source, split = read_dataset(data.select([2, 1]))
    assert split is None
    assert cells(source, "x") == [3, 2]
    assert cells(source, "y") == [None, "yes"]


def test_rows_are_fetched_in_the_order_asked_for_from_one_chunk_and_from_many():
    one = read_columns({"a": list(range(1000)), "b": [str(i) for i in range(1000)]})
    many = one.with_columns({"a": pa.chunked_array([[i] for i in range(1000)]), "b": one.arrow.column("b")})
    for rows in ([5, 3, 999, 0], [10, 11, 12], [7]):
        for source in (one, many):
            got = source.fetch(np.array(rows), ["a", "b", "absent"])
            assert got == {"a": rows, "b": [str(i) for i in rows], "absent": [None] * len(rows)}


def test_five_spellings_of_a_missing_picture_give_equal_records_and_batches(tmp_path):
    from PIL import Image as Picture

    Picture.fromarray(np.full((8, 8), 100, np.uint8)).save(tmp_path / "a.png")
    base = pd.DataFrame({"id": ["1", "2"], "age": [50.0, 60.0], "y": ["0", "1"]})
    there = base.assign(p=["a.png", "a.png"])
    schema = Cohort.from_frame(there, image="p", tabular=["age"], target="y", id="id", root=tmp_path).schema
    spellings = {
        "None": base.assign(p=pd.Series([None, None], dtype=object)),
        "NaN": base.assign(p=[np.nan, np.nan]),
        "empty": base.assign(p=["", "  "]),
        "dead path": base.assign(p=["gone.png", "away/gone.png"]),
        "no column": base,
    }
    cohorts = {}
    for name, frame in spellings.items():
        with pytest.warns(UserWarning, match="no column 'p'") if name == "no column" else _quiet():
            cohorts[name] = Cohort.from_frame(frame, schema=schema, root=tmp_path, missing_files="absent")
    first = cohorts["None"]
    batch = first.collate(list(first))
    assert first[0].present == ("table",)
    for cohort in cohorts.values():
        assert list(cohort) == list(first)
        assert np.array_equal(cohort.present, first.present)
        other = cohort.collate(list(cohort))
        assert set(other.values) == {"table"}
        assert other.present.equal(batch.present)
        assert other.values["table"]["cells"].equal(batch.values["table"]["cells"])
        assert other.notes == batch.notes


def _quiet():
    from contextlib import nullcontext

    return nullcontext()


cells_of_any_kind = st.one_of(
    st.none(),
    st.sampled_from(
        ["", " ", "nan", "NaN", "inf", "1e999", "<5", "1,5", "1", "0", "yes", "[", '["a"]', "-", "\x00"]
    ),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=6),
    st.floats(),
    st.integers(-(10**20), 10**20),
)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(*[cells_of_any_kind] * 4), min_size=1, max_size=6), st.booleans())
def test_any_cells_make_a_cohort_that_can_be_read_or_a_value_error(tmp_path, rows, from_csv):
    frame = pd.DataFrame(rows, columns=["a", "b", "c", "y"], dtype=object)
    columns = {"tabular": ["a", "b"], "text": "c", "target": "y"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            if from_csv:
                frame.to_csv(tmp_path / "t.csv", index=False)
                cohort = Cohort.from_csv(tmp_path / "t.csv", **columns)
            else:
                cohort = Cohort.from_frame(frame, **columns)
        except ValueError:
            return
        batch = cohort.collate(list(cohort))
    assert np.array_equal(batch.present.numpy()[:, 1], cohort.present[:, 1])
    assert all(values.isfinite().all() for values in batch.targets.values())
