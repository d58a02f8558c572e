"""Pictures: same bytes for the same seed, factors that can be read, masks that fit, telling anatomy."""

import hashlib
import os
import subprocess
import sys
import time
from itertools import combinations

import numpy as np
import pytest

from mmmed.data.synthetic import generate
from mmmed.data.synthetic.picture import LETTERS, STRUCTURES
from mmmed.data.synthetic.truth import COLUMNS


@pytest.fixture(scope="module")
def cohort():
    return generate(240, seed=3)


def _digest(cohort):
    facts = repr(
        [cohort.table[name] if name != "months" else list(cohort.table[name]) for name in cohort.table]
    )
    return hashlib.sha256(cohort.pictures.tobytes() + facts.encode()).hexdigest()


def test_the_same_seed_gives_the_same_bytes_and_another_seed_does_not():
    assert _digest(generate(12, seed=4)) == _digest(generate(12, seed=4))
    assert _digest(generate(12, seed=4)) != _digest(generate(12, seed=5))


def test_fewer_patients_are_the_first_of_more(cohort):
    few = generate(20, seed=3)
    assert (few.pictures == cohort.pictures[:20]).all()
    assert (few.mask("lesion 1") == cohort.mask("lesion 1")[:20]).all()
    for name, values in few.table.items():
        assert list(values) == list(cohort.table[name][:20]), name
    assert few.expressions == tuple(item for item in cohort.expressions if item.row < 20)


def test_two_processes_draw_the_same_bytes():
    code = (
        "import hashlib; from mmmed.data.synthetic import generate; cohort = generate(8, seed=3, views=2); "
        "print(hashlib.sha256(cohort.pictures.tobytes() + repr(cohort.table['note']).encode()).hexdigest())"
    )
    here = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONHASHSEED": "1"}
    other = subprocess.run([sys.executable, "-c", code], env=here, capture_output=True, text=True, check=True)
    cohort = generate(8, seed=3, views=2)
    own = hashlib.sha256(cohort.pictures.tobytes() + repr(cohort.table["note"]).encode()).hexdigest()
    assert other.stdout.strip() == own


def test_a_row_looks_the_same_whatever_else_is_drawn(cohort):
    pictures, structures = cohort.render([17, 5])
    assert (pictures == cohort.pictures[[17, 5]]).all()
    assert ((structures >> STRUCTURES.index("lesion 1") & 1) == cohort.mask("lesion 1")[[17, 5]]).all()


def test_the_size_of_the_picture_changes_no_fact_about_the_patients(cohort):
    large = generate(10, seed=3, size=96)
    assert large.pictures.shape == (10, 96, 96)
    assert large.table["note"] == cohort.table["note"][:10]
    assert list(large.table["diagnosis"]) == list(cohort.table["diagnosis"][:10])


def test_600_rows_of_64_pixels_take_less_than_two_seconds():
    taken = []
    for _ in range(2):  # processor time still grows where others share the core: the better of two counts
        start = time.process_time()
        assert generate(600, seed=1).pictures.shape == (600, 64, 64)
        taken.append(time.process_time() - start)
        if taken[-1] < 2.0:
            break
    assert min(taken) < 2.0


def _measure(picture, lesion, lungs):
    """Radius, contrast and roughness of a lesion of known mask: what a careful reader would measure."""
    row, column = np.nonzero(lesion)
    radius = np.sqrt(lesion.sum() / np.pi) / len(picture)
    away = np.hypot(row - row.mean(), column - column.mean())
    core = lesion & (
        np.roll(lesion, 1, 0) & np.roll(lesion, -1, 0) & np.roll(lesion, 1, 1) & np.roll(lesion, -1, 1)
    )
    contrast = np.median(picture[core]) / 255 - np.median(picture[lungs & ~lesion]) / 255
    # the second moment of a shape of given area is smallest for the disc
    roughness = 2 * np.pi * ((away**2).mean() + 1 / 6) / lesion.sum()
    return radius, contrast, roughness


def test_margin_size_and_density_can_be_read_from_the_picture(cohort):
    lungs = cohort.mask("right lung") | cohort.mask("left lung")
    lungs &= ~(cohort.mask("effusion") | cohort.mask("lesion 2") | cohort.mask("lesion 3"))
    lesions = cohort.mask("lesion 1")
    measured = np.array([_measure(*parts) for parts in zip(cohort.pictures, lesions, lungs, strict=True)])
    levels = cohort.rows.levels
    for place, (name, borders) in enumerate(
        {"r": (0.085, 0.127), "d": (0.23, 0.355), "a": (1.06, 1.25)}.items()
    ):
        read = np.digitize(measured[:, place], borders) - 1
        assert (read == levels[:, COLUMNS.index(name)]).mean() > 0.97, name


def test_masks_lie_inside_the_picture_and_lesions_inside_the_body(cohort):
    body, lungs = cohort.mask("body"), cohort.mask("right lung") | cohort.mask("left lung")
    border = np.ones((64, 64), dtype=bool)
    border[1:-1, 1:-1] = False
    assert not (lungs & ~body).any()
    assert not (cohort.mask("right lung") & cohort.mask("left lung")).any()
    assert not (cohort.mask("effusion") & ~lungs).any()
    for place in range(3):
        mask = cohort.mask(f"lesion {place + 1}")
        has = np.array([len(scene.lesions) > place for scene in cohort.scenes])
        assert (mask.any((1, 2)) == has).all()
        assert not (mask & border).any()
        assert not (mask & ~body).any()
        assert (mask & lungs).sum() > 0.8 * mask.sum()


def test_the_index_lesion_is_the_largest_and_no_other_touches_it(cohort):
    masks = [cohort.mask(f"lesion {place + 1}") for place in range(3)]
    for other in masks[1:]:
        has = other.any((1, 2))
        assert (masks[0].sum((1, 2))[has] > 1.5 * other.sum((1, 2))[has]).all()
        grown = masks[0] | np.roll(masks[0], 1, 1) | np.roll(masks[0], -1, 1) | np.roll(masks[0], 1, 2)
        assert not (grown & other).any()
    counts = np.bincount([len(scene.lesions) for scene in cohort.scenes], minlength=4)
    assert counts[0] == 0
    assert (counts[1:] > 0).all()


def test_the_right_lung_is_on_the_left_of_the_picture_and_zones_run_from_top_to_bottom(cohort):
    columns, rows = np.arange(64), np.arange(64)
    assert (cohort.mask("right lung").sum(1) @ columns).mean() < (
        cohort.mask("left lung").sum(1) @ columns
    ).mean()
    height = {}
    for scene, mask in zip(cohort.scenes, cohort.mask("lesion 1"), strict=True):
        lesion = scene.lesions[0]
        middle = (mask.sum(0) @ columns) / mask.sum()
        assert (middle < 32) == (lesion.side == "right")
        height.setdefault(lesion.zone, []).append((mask.sum(1) @ rows) / mask.sum())
    assert max(height["upper"]) < min(height["middle"]) < max(height["middle"]) < min(height["lower"])


def test_every_site_burns_in_its_letter(cohort):
    for site, letter in LETTERS.items():
        dots = np.array([[mark == "1" for mark in line] for line in letter]).repeat(2, 0).repeat(2, 1)
        here = cohort.pictures[np.array(cohort.table["site"]) == site, :10, :6]
        assert here[:, dots].min() > 160
        assert here[:, ~dots].max() < 100


def test_a_second_view_shows_the_same_patient_turned_a_little():
    cohort, single = generate(12, seed=3, views=2), generate(12, seed=3)
    assert cohort.pictures.shape == cohort.mask("lesion 1").shape == (12, 2, 64, 64)
    assert (cohort.pictures[:, 0] == single.pictures).all()
    areas = cohort.mask("lesion 1").sum((2, 3))
    assert areas[:, 1] == pytest.approx(areas[:, 0], rel=0.12)
    assert (cohort.mask("lesion 1")[:, 0] != cohort.mask("lesion 1")[:, 1]).any((1, 2)).all()


def test_a_stack_shows_each_lesion_at_full_size_in_one_slice_only(cohort):
    rows = [row for row in range(90) if cohort.scenes[row].lesions[0].density == "solid"][:12]
    stacks = cohort.stacks(rows, depth=8)
    assert stacks.shape == (12, 8, 64, 64)
    assert (stacks == cohort.stacks(rows, depth=8)).all()
    for row, stack in zip(rows, stacks, strict=True):
        mask, lesion = cohort.mask("lesion 1")[row], cohort.scenes[row].lesions[0]
        bright = np.array([plane[mask].mean() for plane in stack.astype(float)])
        seen = np.flatnonzero(bright > bright.min() + 15)
        assert np.argmax(bright) in range(2, 6)
        assert bright.max() > bright.min() + 60  # the lesion comes and goes along the depth
        assert len(seen) == 2 * int(lesion.radius * 8) + 1  # a ball: slices lie an eighth of the side apart
        assert np.argmax(bright) == seen[len(seen) // 2]


def test_pictures_without_lesions_come_only_where_they_are_allowed_and_have_no_diagnosis():
    cohort = generate(120, lesions=(0, 2))
    empty = np.array([not scene.lesions for scene in cohort.scenes])
    assert 0.08 < empty.mean() < 0.35
    assert (~cohort.mask("lesion 1").any((1, 2)) == empty).all()
    assert not cohort.mask("lesion 3").any()
    assert [value is None for value in cohort.table["diagnosis"]] == empty.tolist()
    assert (np.isnan(cohort.posterior()) == empty).all()


def _nearest_label(pictures, labels, train, test):
    """The label of the training picture whose coarse anatomy is most like the test picture's."""
    coarse = pictures.reshape(len(pictures), 16, 4, 16, 4).mean((2, 4))[:, 3:].reshape(len(pictures), -1)
    coarse = coarse - np.median(coarse, axis=0)  # what all bodies share says nothing
    coarse = np.clip(coarse, -8, 8)  # a lesion that changed must not outweigh the texture
    distance = ((coarse[test][:, None] - coarse[train][None]) ** 2).sum(-1)
    return labels[train][distance.argmin(1)]


def test_a_split_of_rows_leaks_through_the_anatomy_and_a_split_of_patients_does_not():
    from sklearn.metrics import roc_auc_score

    cohort = generate(220, seed=0, visits=2, keep=0.8)
    labels, patient, visit = cohort.rows.label, cohort.rows.patient, cohort.rows.visit
    rows = _nearest_label(cohort.pictures, labels, visit == 0, visit == 1)
    apart = _nearest_label(cohort.pictures, labels, patient < 110, patient >= 110)
    ceiling, spread = cohort.truth.ceiling("image").auroc, 0.019
    leak = roc_auc_score(labels[visit == 1], rows)
    clean = roc_auc_score(labels[patient >= 110], apart)
    assert leak > 0.75  # one copied label, although the picture's own factors were not even looked at
    assert clean < 0.62
    assert clean < ceiling + 3 * spread


def test_the_anatomy_differs_from_patient_to_patient(cohort):
    for first, second in combinations(range(6), 2):
        assert not np.allclose(cohort.scenes[first].texture, cohort.scenes[second].texture)
