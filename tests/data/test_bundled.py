"""Tables that scikit-learn ships: nothing is lost in the cut, and the answer is no input."""

import pytest
from sklearn import datasets

from mmmed import load_cohort
from mmmed.data.bundled import BUNDLED

SIZES = {"diabetes": (442, 10, 3), "breast-cancer": (569, 30, 3), "digits": (1797, 64, 4)}


@pytest.fixture(params=SIZES)
def name(request):
    return request.param


def test_every_set_is_tested():
    assert set(SIZES) == set(BUNDLED)


def test_every_column_belongs_to_exactly_one_modality_and_the_target_to_none(name):
    cohort, (rows, columns, modalities) = load_cohort(name), SIZES[name]
    assert (len(cohort), len(cohort.schema.modalities), cohort.name) == (rows, modalities, name)
    used = [column for modality in cohort.schema.modalities.values() for column in modality.columns]
    assert len(used) == len(set(used)) == columns
    assert not {c for task in cohort.schema.tasks.values() for c in task.columns} & set(used)
    assert cohort.present.all()


def test_cells_and_labels_are_those_of_the_source():
    cohort, source = load_cohort("breast-cancer"), datasets.load_breast_cancer(as_frame=True)
    assert cohort.column("worst area") == source.data["worst area"].tolist()
    assert (cohort.targets("malignant")[0] == 1 - source.target).all()
    digits = load_cohort("digits")
    assert (digits.targets("large")[0] == (datasets.load_digits().target >= 5)).all()
    corner = digits.schema.modalities["upper right"].columns
    assert "pixel_0_7" in corner
    assert "pixel_4_4" not in corner


def test_an_option_that_it_does_not_have_is_refused(name):
    with pytest.raises(ValueError, match="option"):
        load_cohort(name, target="x")
