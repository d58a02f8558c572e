"""Distances between surfaces equal a slow obvious computation, and are undefined without a surface."""

from __future__ import annotations

import importlib.util
import math
import sys
import warnings

import numpy as np
import pytest
from scipy.ndimage import binary_erosion, distance_transform_edt

from mmmed.evaluation import mask_surfaces
from mmmed.evaluation.mask_surfaces import has_monai, surface_scores

needs_monai = pytest.mark.skipif(not has_monai(), reason="needs monai")


@pytest.fixture(scope="module", autouse=True)
def loaded():
    """MONAI takes seconds to import; no single test should pay for it."""
    if has_monai():
        mask_surfaces._monai()


def surface(mask):
    """Pixels with a neighbour (by edge or face) outside the mask or outside the picture."""
    points = []
    for place in np.argwhere(mask):
        for axis in range(mask.ndim):
            for step in (-1, 1):
                beside = place.copy()
                beside[axis] += step
                inside = all(0 <= b < n for b, n in zip(beside, mask.shape, strict=True))
                if not inside or not mask[tuple(beside)]:
                    points.append(tuple(place))
    return np.array(sorted(set(points)), dtype=float)


def slow_scores(ours, truth, spacing, tolerance):
    """Every surface pixel against every other one."""
    a, b = surface(ours) * spacing, surface(truth) * spacing
    distances = np.sqrt(((a[:, None] - b[None]) ** 2).sum(-1))
    there, back = distances.min(axis=1), distances.min(axis=0)
    within = (there <= tolerance + 1e-6).sum() + (back <= tolerance + 1e-6).sum()
    return max(np.percentile(there, 95), np.percentile(back, 95)), within / (len(there) + len(back))


def blob(rng, shape):
    mask = rng.random(shape) < 0.2
    start = [rng.integers(0, n // 2) for n in shape]
    mask[tuple(slice(s, s + n // 2 + 1) for s, n in zip(start, shape, strict=True))] = True
    return mask


@needs_monai
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    ("shape", "spacing"),
    [((9, 11), (1.0, 1.0)), ((9, 11), (0.4, 1.7)), ((5, 7, 6), (3.0, 0.5, 0.9)), ((4, 6, 5), None)],
)
def test_both_equal_every_surface_pixel_against_every_other(shape, spacing, seed):
    rng = np.random.default_rng(seed)
    ours, truth = blob(rng, shape), blob(rng, shape)
    expected = slow_scores(ours, truth, np.array(spacing or [1.0] * len(shape)), 1.0)
    np.testing.assert_allclose(surface_scores(ours, truth, spacing, 1.0), expected, rtol=1e-5)


@needs_monai
@pytest.mark.parametrize("spacing", [(1.0, 1.0), (0.7, 2.1)])
def test_it_equals_distance_transforms(spacing):
    rng = np.random.default_rng(5)
    ours, truth = blob(rng, (14, 17)), blob(rng, (14, 17))
    edges = [mask & ~binary_erosion(mask) for mask in (ours, truth)]
    maps = [distance_transform_edt(~edge, sampling=spacing) for edge in edges]
    there, back = maps[1][edges[0]], maps[0][edges[1]]
    expected = max(np.percentile(there, 95), np.percentile(back, 95))
    assert surface_scores(ours, truth, spacing)[0] == pytest.approx(expected, rel=1e-5)


@needs_monai
def test_a_square_moved_by_three_pixels_by_hand():
    ours, truth = np.zeros((8, 12), bool), np.zeros((8, 12), bool)
    ours[2:4, 2:4] = truth[2:4, 5:7] = True
    # of each square two pixels are 2 columns from the other one and two are 3
    assert surface_scores(ours, truth, (9.0, 0.5), 1.0) == pytest.approx((1.5, 0.5))
    assert surface_scores(ours, truth, (9.0, 0.5), 1.5) == pytest.approx((1.5, 1.0))
    assert surface_scores(ours, truth, None, 2.0) == pytest.approx((3.0, 0.5))
    assert surface_scores(truth, truth, (9.0, 0.5)) == (0, 1)


@needs_monai
def test_each_direction_has_its_own_percentile():
    """One far pixel among few of one side: where both sides share a percentile it is hidden by the other."""
    ours, truth = np.zeros((20, 40), bool), np.zeros((20, 40), bool)
    truth[5:15, 5:15] = ours[7, 7:12] = True
    ours[7, 35] = True
    slow = slow_scores(ours, truth, np.ones(2), 1.0)[0]
    a, b = surface(ours), surface(truth)
    distances = np.sqrt(((a[:, None] - b[None]) ** 2).sum(-1))
    pooled = np.percentile(np.r_[distances.min(axis=1), distances.min(axis=0)], 95)
    assert surface_scores(ours, truth)[0] == pytest.approx(slow, rel=1e-5)
    assert pooled < slow


@needs_monai
def test_the_border_of_the_picture_is_outside():
    whole = np.ones((4, 5), bool)
    inner = np.zeros((4, 5), bool)
    inner[1:3, 1:4] = True
    assert surface_scores(whole, inner)[0] == pytest.approx(slow_scores(whole, inner, np.ones(2), 1)[0])


@needs_monai
def test_far_away_pictures_of_nothing_change_nothing():
    rng = np.random.default_rng(2)
    ours, truth = blob(rng, (6, 6)), blob(rng, (6, 6))
    wide = [np.pad(mask, ((30, 10), (5, 50))) for mask in (ours, truth)]
    assert surface_scores(*wide, (1.0, 2.0)) == pytest.approx(surface_scores(ours, truth, (1.0, 2.0)))


def test_where_one_side_is_empty_there_is_no_distance():
    some, none = np.eye(4, dtype=bool), np.zeros((4, 4), bool)
    for pair in ((some, none), (none, some), (none, none)):
        assert all(math.isnan(value) for value in surface_scores(*pair))


def test_what_does_not_fit_is_named():
    flat = np.eye(4, dtype=bool)
    with pytest.raises(ValueError, match=r"\[4, 4\] and \[4, 5\]"):
        surface_scores(flat, np.zeros((4, 5), bool))
    with pytest.raises(ValueError, match="each of the 2 axes"):
        surface_scores(flat, flat, (1.0, 1.0, 1.0))
    with pytest.raises(ValueError, match="tolerance"):
        surface_scores(flat, flat, tolerance=-1)


@needs_monai
def test_nothing_is_said_on_the_way():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        surface_scores(np.eye(5, dtype=bool), np.eye(5, dtype=bool)[::-1])


def test_without_monai_the_line_that_installs_it_is_given(monkeypatch):
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda n, *r: None if n == "monai" else real(n, *r))
    with pytest.raises(ImportError, match=r'"mmmed\[segmentation\]"'):
        surface_scores(np.eye(3, dtype=bool), np.eye(3, dtype=bool))


def test_importing_the_module_does_not_import_monai():
    import subprocess

    code = "import mmmed.evaluation.masks, sys; sys.exit('monai' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
