"""Series: steps in any order and any form, counted back from the last; an error names what is wrong."""

import math

import numpy as np
import pytest
import torch

from mmmed.data.collate import Collator
from mmmed.types import Number, Record, Schema, Series

CHANNELS = (Number("hr", mean=80.0, scale=10.0), Number("sbp"))


def series(value, **options):
    modality = Series("vitals", CHANNELS, **{"length": 3, "time_scale": 24.0, **options})
    return Collator(Schema({"vitals": modality}))([Record("r1", {"vitals": value})])


def test_steps_are_sorted_scaled_and_counted_back_from_the_last():
    batch = series([{"time": 48, "hr": 90}, {"time": 0, "hr": 70, "sbp": 120}, {"time": 24, "sbp": 110}])
    values = batch.values["vitals"]
    assert values["times"].tolist() == [[-2.0, -1.0, 0.0]]
    assert values["values"].tolist() == [[[-1.0, 120.0], [0.0, 110.0], [1.0, 0.0]]]
    assert values["known"].tolist() == [[[True, True], [False, True], [True, False]]]


def test_only_the_latest_steps_are_kept():
    steps = [{"time": t, "hr": 80 + t} for t in (5, 1, 4, 2, 3)]
    values = series(steps, time_scale=1.0).values["vitals"]
    assert values["times"].tolist() == [[-2.0, -1.0, 0.0]]
    assert values["values"][0, :, 0].tolist() == pytest.approx([0.3, 0.4, 0.5])


def test_times_late_in_a_long_stay_keep_their_differences():
    # 1e9 seconds and one more are the same float32: the difference is taken before.
    values = series([{"time": 1e9, "hr": 80}, {"time": 1e9 + 1, "hr": 80}], time_scale=1.0).values["vitals"]
    assert values["times"].tolist() == [[-1.0, 0.0]]


def test_shorter_series_are_padded_with_unknown_steps():
    records = [
        Record("a", {"vitals": [{"time": 0, "hr": 90}]}),
        Record("b", {"vitals": [{"time": 0, "hr": 90}, {"time": 1, "hr": 90}]}),
    ]
    known = Collator(Schema({"vitals": Series("vitals", CHANNELS)}))(records).values["vitals"]["known"]
    assert known[:, :, 0].tolist() == [[True, False], [True, True]]


STEPS = [{"time": 0, "hr": 70, "sbp": None}, {"time": 24, "hr": float("nan"), "sbp": 110}]


@pytest.mark.parametrize(
    "form",
    [
        {"time": [0, 24], "hr": [70, None], "sbp": [float("nan"), 110]},
        {"time": np.array([0, 24]), "hr": np.array([70, np.nan]), "sbp": (None, "110")},
        tuple(STEPS),
        np.array(STEPS, dtype=object),
        [*STEPS, None, {}, {"time": 99, "hr": None}],
        [{"time": "0", "hr": "70"}, {"time": 24.0, "hr": "nan", "sbp": 110}],
    ],
    ids=["lists", "arrays", "tuple", "objects", "empty steps", "text"],
)
def test_a_series_may_come_as_steps_or_as_columns(form):
    wanted, got = series(STEPS).values["vitals"], series(form).values["vitals"]
    assert all(torch.equal(wanted[key], got[key]) for key in wanted)


def test_a_series_without_a_single_value_is_absent():
    batch = series([{"time": 0, "hr": None}, {"time": 1}])
    assert "vitals" not in batch.values
    assert not batch.present.any()
    assert "vitals counts as not recorded" in batch.notes[0][0]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([{"hr": 80}], "every step needs a 'time' and its values, got .*Complete it"),
        ([{"time": None, "hr": 80}], "every step needs a 'time'"),
        ([{"time": "nan", "hr": 80}], "every step needs a 'time'"),
        ([80, 90], "every step needs a 'time'"),
        ({"hr": [80]}, "every step needs a 'time'"),
        ({"time": [0, 1], "hr": [80]}, "equally long, got {'time': 2, 'hr': 1}"),
        ({"time": 0, "hr": 80}, "a list of steps was expected"),
        ("80, 90", "a list of steps was expected"),
        (80.0, "a list of steps was expected"),
        ([{"time": 0, "hr": "fast"}], "channel \"hr\"|channel 'hr': a number was expected, got 'fast'"),
        ([{"time": "noon", "hr": 80}], "'time': a number was expected, got 'noon'"),
        ([{"time": 0, "hr": math.inf}], "no finite number"),
    ],
    ids=str,
)
def test_a_series_that_is_wrong_is_named(value, message):
    with pytest.raises(ValueError, match=message) as caught:
        series(value)
    assert 'record "r1", column "vitals"' in str(caught.value)
