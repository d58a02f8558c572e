"""Mosaics: only the words tell which picture is meant; parts stay apart; chance comes from the generator."""

from collections import Counter

import numpy as np
import pytest

from mmmed.data.cohort import Cohort
from mmmed.data.folders import load_cohort
from mmmed.data.mosaics import join, mosaics, positions
from mmmed.data.phrases import phrases_of
from mmmed.types import Phrase

SIZE = 32


def draw(view, phrases, pictures=30, seed=0, **options):
    generator = np.random.default_rng(seed)
    return mosaics(view, phrases, pictures, size=SIZE, generator=generator, **options)


@pytest.fixture(scope="module")
def cohort():
    return load_cohort("synthetic", patients=120, seed=1, lesions=(0, 2), size=SIZE)


@pytest.fixture(scope="module")
def phrases(cohort):
    return phrases_of(cohort)


@pytest.fixture(scope="module")
def made(cohort, phrases):
    return draw(cohort, phrases, blank=0.3)


def plain_cohort(shapes, split="train"):
    """One grey picture per patient, with a lesion that is one bright pixel wide or larger."""
    rows, phrases = [], []
    for number, (height, width) in enumerate(shapes):
        picture, mask = np.full((height, width), 50, np.uint8), np.zeros((height, width), bool)
        picture[height // 2, width // 2], mask[height // 2, width // 2] = 200, True
        rows.append({"id": f"r{number}", "patient": f"p{number}", "image": picture, "part": split})
        phrases.append(Phrase(f"r{number}", "the dot", mask, group=f"p{number}", spacing=(0.5, 0.5)))
    return Cohort.from_records(rows, image="image", id="id", group="patient", split="part"), phrases


def tile_of(values, place, columns=2):
    row, column = divmod(place, columns)
    return values[row * SIZE : (row + 1) * SIZE, column * SIZE : (column + 1) * SIZE]


def test_each_word_picks_the_tile_it_names_and_its_own_lesion(cohort, made):
    mosaic, phrases = made
    pictures = dict(zip(mosaic.ids.tolist(), mosaic.column("image"), strict=True))
    tiles = dict(zip(mosaic.ids.tolist(), mosaic.column("tiles"), strict=True))
    rows = dict(zip(cohort.ids.tolist(), cohort.rows.tolist(), strict=True))
    whole = cohort.truth.made
    for number, phrase in enumerate(phrases):
        place = number % 4
        word = ("upper left", "upper right", "lower left", "lower right")[place]
        assert phrase.text == f"the nodule in the {word} picture"
        record = tiles[phrase.record].split(";")[place]
        picture = whole.pictures[rows[record]] if record else np.zeros((SIZE, SIZE))
        assert np.array_equal(tile_of(pictures[phrase.record], place), picture)
        if phrase.empty:
            assert record == "" or not whole.scenes[rows[record]].lesions
            assert phrase.group == phrase.record
        else:
            assert len(whole.scenes[rows[record]].lesions) == 1  # or "the nodule" could be two things
            assert np.array_equal(tile_of(phrase.mask, place), whole.mask("lesion 1")[rows[record]])
            assert phrase.mask.sum() == tile_of(phrase.mask, place).sum()
            assert phrase.group == cohort.groups[cohort.ids.tolist().index(record)]


def test_a_mosaic_holds_different_patients_of_its_own_part(cohort, made):
    mosaic, _ = made
    parts = dict(zip(cohort.ids.tolist(), cohort.splits.tolist(), strict=True))
    groups = dict(zip(cohort.ids.tolist(), cohort.groups.tolist(), strict=True))
    for part, tiles in zip(mosaic.splits.tolist(), mosaic.column("tiles"), strict=True):
        records = [record for record in tiles.split(";") if record]
        assert {parts[record] for record in records} <= {part}
        assert len({groups[record] for record in records}) == len(records)
    assert Counter(mosaic.splits.tolist()).keys() == {"train", "val", "test"}


def test_the_same_generator_gives_the_same_mosaics(cohort, phrases, made):
    again, told = draw(cohort, phrases, blank=0.3)
    assert again.column("tiles") == made[0].column("tiles")
    assert told == made[1]
    assert all(
        np.array_equal(a, b) for a, b in zip(again.column("image"), made[0].column("image"), strict=True)
    )
    assert draw(cohort, phrases, seed=1)[0].column("tiles") != again.column("tiles")


@pytest.mark.parametrize(("blank", "low", "high"), [(0, 0, 0), (0.5, 0.4, 0.6), (1, 1, 1)])
def test_blank_is_the_share_of_empty_phrases(cohort, phrases, blank, low, high):
    told = draw(cohort["train"], phrases, 60, blank=blank)[1]
    assert low <= np.mean([phrase.empty for phrase in told]) <= high


def test_blank_tiles_are_patients_without_a_lesion_before_they_are_black(cohort, phrases):
    mosaic, _ = draw(cohort["train"], phrases, 20, blank=1)
    assert all(record for tiles in mosaic.column("tiles") for record in tiles.split(";"))
    black, told = draw(*plain_cohort([(SIZE, SIZE)] * 4), 3, blank=1)
    assert set(black.column("tiles")) == {";;;"}
    assert not np.any(black.column("image"))
    assert all(phrase.empty for phrase in told)


@pytest.mark.parametrize(
    ("grid", "words"),
    [
        ((1, 2), ("left", "right")),
        ((2, 1), ("upper", "lower")),
        ((1, 3), ("left", "central", "right")),
        ((3, 2), ("upper left", "upper right", "middle left", "middle right", "lower left", "lower right")),
    ],
)
def test_every_grid_has_its_words(grid, words, cohort, phrases):
    assert positions(grid) == words
    mosaic, told = draw(cohort["train"], phrases, 2, grid=grid, blank=0)
    assert mosaic.column("image")[0].shape == (grid[0] * SIZE, grid[1] * SIZE) == told[0].mask.shape
    assert [phrase.text for phrase in told[: len(words)]] == [f"the nodule in the {w} picture" for w in words]


def test_large_grids_are_counted():
    assert positions((1, 4))[3] == "row 1, column 4"
    mosaic, told = draw(*plain_cohort([(SIZE, SIZE)] * 4), 1, grid=(1, 4), blank=0)
    assert told[3].text == "the lesion in the picture of row 1, column 4"
    assert len(mosaic) == 1


def test_tiles_are_joined_row_by_row():
    tiles = [np.full((2, 2), number) for number in range(6)]
    assert join(tiles, (2, 3))[::2, ::2].tolist() == [[0, 1, 2], [3, 4, 5]]


def test_a_small_lesion_keeps_a_pixel_and_spacing_grows_with_shrinking():
    cohort, phrases = plain_cohort([(4 * SIZE, 2 * SIZE), (SIZE, SIZE)])
    _, told = draw(cohort, phrases, 1, grid=(1, 2), blank=0)
    by_patient = {phrase.group: phrase for phrase in told}
    assert by_patient["p0"].spacing == (2.0, 2.0)  # the longer side, 128 pixels, became 32
    assert by_patient["p1"].spacing == (0.5, 0.5)
    assert all(1 <= phrase.mask.sum() <= 4 for phrase in told)
    for phrase in told:  # proportions are kept, so the middle stays the middle
        rows, columns = np.nonzero(phrase.mask)
        assert abs(rows.mean() - SIZE / 2) <= 1
        assert abs(columns.mean() % SIZE - SIZE / 2) <= 1


def test_a_mosaic_is_an_ordinary_cohort(made):
    mosaic, _ = made
    assert mosaic.ids[:2].tolist() == ["mosaic-0001", "mosaic-0002"]
    assert mosaic.column("image")[0].dtype == np.uint8
    batch = next(mosaic["val"].batches(3))
    assert batch.values["image"]["pixels"].shape[-2:] == (2 * SIZE, 2 * SIZE)
    assert phrases_of(mosaic, list(made[1])) == made[1]


def test_what_cannot_become_a_mosaic_says_why(cohort, phrases):
    few, told = plain_cohort([(SIZE, SIZE)] * 3)
    with pytest.raises(ValueError, match='needs as many patients; the part "train" has 3'):
        draw(few, told)
    with pytest.raises(ValueError, match="at least two places"):
        draw(cohort, phrases, grid=(1, 1))
    with pytest.raises(ValueError, match=r"grid should be \(rows, columns\)"):
        draw(cohort, phrases, grid=4)
    with pytest.raises(ValueError, match="should be a numpy Generator"):
        mosaics(cohort, phrases, 1, generator=0)
    with pytest.raises(ValueError, match="no phrase with a mask about a picture"):
        draw(cohort, told)
    with pytest.raises(ValueError, match="made of flat pictures"):
        draw(load_cohort("diabetes"), phrases)


def test_of_two_things_of_one_kind_neither_is_the_lesion():
    cohort, phrases = plain_cohort([(SIZE, SIZE)] * 3)
    second = Phrase("r0", "the other dot", phrases[0].mask, group="p0")
    _, told = draw(cohort, [*phrases, second], 4, grid=(1, 2), blank=0)
    assert {phrase.group for phrase in told} == {"p1", "p2"}


@pytest.mark.real_data
@pytest.mark.filterwarnings("ignore:Columns of the table")
def test_mosaics_of_real_ultrasound(real_cohorts):
    cohort = load_cohort("breast-us", root=real_cohorts)
    mosaic, told = draw(cohort, phrases_of(cohort), 40)
    assert Counter(mosaic.splits.tolist()) == {"train": 24, "val": 8, "test": 8}
    assert len(told) == 160
    assert all(phrase.mask.any() for phrase in told if not phrase.empty)
    assert {phrase.text for phrase in told} == {
        f"the lesion in the {word} picture" for word in positions((2, 2))
    }
