"""From records to a packed batch: every kind of input, every way it can be wrong, and no row ever shifted."""

import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Picture

from mmmed.checks import MissingFile, UnreadableFile, UnsafePath
from mmmed.data.collate import Collator, read_targets
from mmmed.types import (
    Binary,
    Category,
    Image,
    Multiclass,
    Multilabel,
    Number,
    Record,
    Regression,
    Schema,
    Series,
    Tabular,
    Text,
    Tokens,
    Volume,
)

VOCABULARY = ("[PAD]", "[UNK]", "cough", "fever", "no")
AGE = Number("age", unit="y", low=0, high=120, mean=60.0, scale=20.0)
SCHEMA = Schema(
    modalities={
        "image": Image("path", size=(4, 4), mean=0.5, scale=0.25),
        "table": Tabular((AGE, Number("crp", mean=1.0, scale=2.0), Category("sex", levels=("f", "m", "1")))),
        "note": Text("history", length=3, vocabulary=VOCABULARY),
        "vitals": Series(
            "vitals", (Number("hr", mean=80.0, scale=10.0), Number("sbp")), length=3, time_scale=24.0
        ),
    },
    tasks={
        "sick": Binary("sick", levels=("no", "yes")),
        "stage": Multiclass("stage", levels=("1", "2", "3")),
        "signs": Multilabel(("cough", "fever")),
        "days": Regression("days", unit="d", mean=5.0, scale=2.0),
    },
)
collate = Collator(SCHEMA)


def grey(value, size=(4, 4)):
    return np.full(size, value, np.float32)


# ------------------------------------------------------------------------------ who has what


@settings(deadline=None, max_examples=40)
@given(st.lists(st.lists(st.booleans(), min_size=4, max_size=4), max_size=6))
def test_only_rows_that_exist_are_stored_and_each_knows_its_place(patterns):
    whole = {
        "image": grey(0.5),
        "table": {"age": 60},
        "note": "cough",
        "vitals": [{"time": 0, "hr": 80}],
    }
    records = [
        Record(f"r{i}", {n: v for (n, v), here in zip(whole.items(), row, strict=True) if here})
        for i, row in enumerate(patterns)
    ]
    batch = collate(records)
    assert batch.present.tolist() == patterns
    assert batch.present.dtype == torch.bool
    assert len(batch) == len(patterns)
    for index, name in enumerate(SCHEMA.modalities):
        rows = [i for i, row in enumerate(patterns) if row[index]]
        assert (name in batch.values) == (name in batch.rows) == bool(rows)
        if rows:
            assert batch.rows[name].tolist() == rows
            assert batch.rows[name].dtype == torch.long
            assert all(len(tensor) == len(rows) for tensor in batch.values[name].values())
    assert batch.ids == tuple(f"r{i}" for i in range(len(patterns)))


def test_a_batch_of_none_has_the_right_kinds():
    batch = collate([])
    assert batch.present.shape == (0, 4)
    kinds = {name: (tuple(batch.targets[name].shape), batch.targets[name].dtype) for name in SCHEMA.tasks}
    assert kinds == {
        "sick": ((0,), torch.float32),
        "stage": ((0,), torch.int64),
        "signs": ((0, 2), torch.float32),
        "days": ((0,), torch.float32),
    }
    assert all(known.dtype == torch.bool for known in batch.known.values())


def test_ids_and_patients_are_carried():
    batch = collate([Record("a", {}, group="p"), Record("b", {})])
    assert batch.ids == ("a", "b")
    assert batch.groups == ("p", "b")  # a record without a patient is its own
    assert batch.notes == ((), ())


def test_a_modality_that_the_schema_does_not_have_is_refused():
    wanted = (
        r'Record "r9" brings the modality \'imge\'.*Did you mean "image"\? It has: image, table, note, vitals'
    )
    with pytest.raises(ValueError, match=wanted):
        collate([Record("r9", {"imge": grey(1)})])


@pytest.mark.parametrize("name", ["missing_files", "unreadable"])
def test_policies_are_known_words(name):
    with pytest.raises(ValueError, match='Did you mean "absent"'):
        Collator(SCHEMA, **{name: "absnt"})


def test_cached_tokens_take_the_place_of_an_encoders_input():
    seen = []

    def cached(records):
        seen.extend(record.id for record in records)
        return Tokens(torch.zeros(len(records), 1, 8), torch.ones(len(records), 1, dtype=torch.bool))

    records = [
        Record("a", {}),
        Record("b", {"image": "no-such-file.png"}),
        Record("c", {"image": "nor-this.png"}),
    ]
    batch = Collator(SCHEMA, tokens={"image": cached})(records)
    assert seen == ["b", "c"]
    assert batch.rows["image"].tolist() == [1, 2]
    assert isinstance(batch.values["image"], Tokens)


# ------------------------------------------------------------------------------ text


def test_texts_are_padded_to_the_longest_and_cut_at_the_schema():
    records = [Record("a", {"note": "cough"}), Record("b", {}), Record("c", {"note": "No fever no cough"})]
    batch = collate(records)
    assert batch.values["note"]["ids"].tolist() == [[2, 0, 0], [4, 3, 4]]
    assert batch.values["note"]["mask"].tolist() == [[True, False, False], [True, True, True]]
    assert batch.rows["note"].tolist() == [0, 2]


def test_a_text_that_is_none_is_named():
    with pytest.raises(
        ValueError, match=r'record "r1", column "history": text was expected, got 5\. Pass a string'
    ):
        collate([Record("r1", {"note": 5})])


# ------------------------------------------------------------------------------ images and volumes


def test_a_picture_is_standardised():
    pixels = collate([Record("a", {"image": grey(0.75)})]).values["image"]["pixels"]
    assert pixels.shape == (1, 1, 1, 4, 4)
    assert pixels.dtype == torch.float32
    assert (pixels == 1.0).all()


def test_views_are_packed_behind_a_mask():
    records = [
        Record("a", {"image": grey(0.5)}),
        Record("b", {}),
        Record("c", {"image": [grey(0.75), None, grey(0.25)]}),
    ]
    batch = collate(records)
    assert batch.rows["image"].tolist() == [0, 2]
    assert batch.values["image"]["views"].tolist() == [[True, False], [True, True]]
    assert batch.values["image"]["pixels"][:, :, 0, 0, 0].tolist() == [[0.0, 0.0], [1.0, -1.0]]


@pytest.fixture
def folder(tmp_path):
    for name, value in (("a.png", 51), ("b.png", 102), ("c.png", 204)):
        Picture.fromarray(np.full((4, 4), value, np.uint8)).save(tmp_path / name)
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n not a picture")
    return str(tmp_path)


def files(folder, *names):
    return [Record(f"r{i}", {"image": name, "note": "cough"}, folder=folder) for i, name in enumerate(names)]


def test_pictures_come_from_the_folder_of_the_record(folder):
    pixels = collate(files(folder, "a.png", "c.png")).values["image"]["pixels"]
    assert pixels[:, 0, 0, 0, 0].tolist() == pytest.approx([(0.2 - 0.5) / 0.25, (0.8 - 0.5) / 0.25])


@pytest.mark.parametrize(
    ("bad", "policy", "kind"),
    [("gone.png", "missing_files", MissingFile), ("broken.png", "unreadable", UnreadableFile)],
)
def test_a_bad_file_is_an_error_that_names_it_or_an_absence_that_shifts_no_row(folder, bad, policy, kind):
    records = files(folder, "a.png", bad, "c.png")
    with pytest.raises(kind, match=rf'record "r1", column "path".*{bad}'):
        collate(records)
    with pytest.warns(UserWarning, match="image counts as not recorded"):
        batch = Collator(SCHEMA, **{policy: "absent"})(records)
    other = collate([records[0], records[2]])
    assert batch.rows["image"].tolist() == [0, 2]
    assert torch.equal(batch.values["image"]["pixels"], other.values["image"]["pixels"])
    assert batch.rows["note"].tolist() == [0, 1, 2]
    assert batch.present[:, 0].tolist() == [True, False, True]
    assert batch.notes[0] == batch.notes[2] == ()
    assert bad in batch.notes[1][0]


def test_one_policy_does_not_excuse_the_other_kind(folder):
    with pytest.raises(UnreadableFile):
        Collator(SCHEMA, missing_files="absent")(files(folder, "broken.png"))
    with pytest.raises(MissingFile):
        Collator(SCHEMA, unreadable="absent")(files(folder, "gone.png"))


def test_a_path_out_of_the_folder_is_never_excused(folder):
    lenient = Collator(SCHEMA, missing_files="absent", unreadable="absent")
    for path in ("../a.png", "/etc/passwd"):
        with pytest.raises(UnsafePath):
            lenient(files(folder, path))


def test_when_no_file_at_all_can_be_read_the_modality_has_no_key(folder):
    with pytest.warns(UserWarning, match="not recorded"):
        batch = Collator(SCHEMA, missing_files="absent")(files(folder, "x.png", "y.png"))
    assert "image" not in batch.values
    assert "image" not in batch.rows
    assert not batch.present[:, 0].any()


def test_no_file_of_a_hidden_picture_is_opened(folder):
    record = files(folder, "gone.png")[0].without("image")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert collate([record]).present[0].tolist() == [False, False, True, False]


def test_volumes_are_stacked_and_standardised():
    schema = Schema({"scan": Volume("scan", size=(2, 4, 4), mean=0.5, scale=0.5)})
    draw = np.random.default_rng(0)
    records = [Record("a", {"scan": draw.random((2, 4, 4), np.float32)}), Record("b", {}),
               Record("c", {"scan": draw.random((2, 4, 4), np.float32)})]  # fmt: skip
    batch = Collator(schema)(records)
    assert batch.values["scan"]["voxels"].shape == (2, 1, 2, 4, 4)
    assert batch.values["scan"]["voxels"].dtype == torch.float32
    assert batch.values["scan"]["voxels"].isfinite().all()
    assert batch.rows["scan"].tolist() == [0, 2]


# ------------------------------------------------------------------------------ targets


def test_targets_are_numbers_and_say_what_is_known():
    records = [
        Record("a", {}, {"sick": "yes", "stage": 3, "cough": 1, "fever": 0, "days": 9}),
        Record("b", {}, {"sick": "no", "stage": "1.0", "cough": None, "fever": "1", "days": "nan"}),
        Record("c", {}),
    ]
    batch = collate(records)
    assert batch.targets["sick"].tolist() == [1.0, 0.0, 0.0]
    assert batch.known["sick"].tolist() == [True, True, False]
    assert batch.targets["stage"].tolist() == [2, 0, 0]
    assert batch.known["stage"].tolist() == [True, True, False]
    assert batch.targets["signs"].tolist() == [[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]]
    assert batch.known["signs"].tolist() == [[True, True], [False, True], [False, False]]
    assert batch.targets["days"].tolist() == [2.0, 0.0, 0.0]
    assert batch.known["days"].tolist() == [True, False, False]


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ({"sick": "yess"}, r"""column "sick": the label 'yess' is none of no, yes\. Did you mean "yes"\?"""),
        ({"stage": 4}, r"""column "stage": the label '4' is none of 1, 2, 3"""),
        ({"fever": 2}, r"""column "fever": the label '2' is none of 0, 1"""),
        ({"days": "long"}, r"""column "days": a number in d was expected, got 'long'"""),
        ({"days": math.inf}, r"""column "days": inf is no finite number"""),
        ({"sick": ["yes"]}, r"""column "sick": .*got \['yes'\]"""),
    ],
    ids=str,
)
def test_a_label_that_is_wrong_is_named(target, message):
    with pytest.raises(ValueError, match=rf'record "r1", {message}'):
        collate([Record("r0", {}), Record("r1", {}, target)])


def test_targets_can_be_read_without_the_inputs():
    records = [Record("a", {"image": "gone.png"}, {"sick": "yes"}), Record("b", {})]
    targets, known = read_targets("sick", SCHEMA.tasks["sick"], records)
    assert (targets.tolist(), known.tolist()) == ([1.0, 0.0], [True, False])


# ------------------------------------------------------------------------------ as a whole


def test_the_same_records_give_the_same_tensors(folder):
    records = [
        *files(folder, "a.png", "b.png"),
        Record("x", {"table": {"age": 50}, "vitals": [{"time": 0, "sbp": 110}]}),
    ]
    one, two = collate(records), Collator(SCHEMA)(records)
    for name, parts in one.values.items():
        assert all(torch.equal(part, two.values[name][key]) for key, part in parts.items())


def test_no_nan_gets_through_whatever_is_thrown_at_it():
    draw = np.random.default_rng(0)
    spellings = [None, float("nan"), "", "nan", np.float32("nan"), 3.0, "7"]

    def any_of_them():
        return spellings[draw.integers(len(spellings))]

    for _ in range(200):
        record = Record(
            "r",
            {"table": {"age": any_of_them(), "crp": any_of_them()},
             "vitals": [{"time": t, "hr": any_of_them(), "sbp": any_of_them()} for t in range(4)]},
            {"days": any_of_them()},
        )  # fmt: skip
        batch = collate([record])
        for parts in batch.values.values():
            assert all(part.isfinite().all() for part in parts.values())
        assert batch.targets["days"].isfinite().all()
        if "table" in batch.values:
            parts = batch.values["table"]
            assert (parts["cells"][~parts["known"]] == 0).all()
