"""Triplets: lines read strictly, texts at several granularities, and a round trip with real masks."""

import copy
import json

import numpy as np
import pytest
from PIL import Image as Picture

from mmmed.checks import MissingFile, UnsafePath
from mmmed.data.folders import load_cohort
from mmmed.data.triplet_lines import PARTS
from mmmed.data.triplets import read_triplets, texts_of, triplets_from, write_triplets

LINE = {
    "image": "images/a.png",
    "modality": "ultrasound",
    "roi": {"box": [2, 3, 10, 8], "mask": "masks/a.png", "words": "upper outer quadrant"},
    "description": {
        "modality": "breast ultrasound",
        "organ": "left breast",
        "roi": "an oval mass at the centre",
        "texture": "hypoechoic.",
        "relation": "it displaces the tissue beside it",
    },
    "source": "made for this test",
}


@pytest.fixture
def write(tmp_path):
    """Writes lines (dicts or raw bytes) beside two pictures of 20 x 10 pixels and gives the file."""
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
        for name in "ab":
            Picture.fromarray(np.zeros((10, 20), np.uint8)).save(tmp_path / folder / f"{name}.png")

    def write(*lines):
        path = tmp_path / "triplets.jsonl"
        raw = [line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines]
        path.write_bytes(b"\n".join(raw) + b"\n")
        return path

    return write


def changed(**fields):
    """LINE with some fields replaced; "roi__box" is the box of the roi; ... takes a field away."""
    line = copy.deepcopy(LINE)
    for name, value in fields.items():
        *above, last = name.split("__")
        place = line
        for step in above:
            place = place[step]
        if value is ...:
            del place[last]
        else:
            place[last] = value
    return line


def many(count=8):
    return [
        changed(image=f"images/{'ab'[n % 2]}.png", patient=f"p{n // 2}", id=f"t{n}") for n in range(count)
    ]


def test_a_file_becomes_a_cohort_with_texts_of_every_granularity(write):
    cohort = read_triplets(write(*many()))
    assert cohort.ids.tolist() == [f"t{n}" for n in range(8)]
    assert list(cohort.schema.modalities) == ["image"]
    assert cohort.column("roi_box")[0] == [2, 3, 10, 8]
    assert cohort.column("report")[0] == (
        "Breast ultrasound. Left breast. An oval mass at the centre. Hypoechoic. "
        "It displaces the tissue beside it."
    )
    assert cohort.column("short")[0] == "Breast ultrasound. Left breast. An oval mass at the centre."
    assert cohort.column("texture")[0] == "Hypoechoic."
    targets = {name for name, role in cohort.roles.items() if role == "text target"}
    assert targets == {"report", "short", "roi", "texture", "relation"}
    assert cohort.collate(list(cohort)).values["image"]["pixels"].shape[0] == 8


def test_what_a_description_leaves_out_is_left_out_of_the_texts():
    assert texts_of({"organ": "lung", "texture": " "}) == {
        "report": "Lung.",
        "short": "Lung.",
        "roi": None,
        "texture": None,
        "relation": None,
    }


def test_triplets_of_one_patient_or_picture_stay_in_one_part(write):
    lines = [changed(image=f"images/{'ab'[n % 2]}.png") for n in range(10)]
    cohort = read_triplets(write(*lines))
    assert set(cohort.groups) == {"images/a.png", "images/b.png"}
    for picture in "ab":
        assert len(set(cohort.splits[cohort.groups == f"images/{picture}.png"])) == 1
    assert cohort.ids.tolist() == [str(n) for n in range(1, 11)]
    own = read_triplets(
        write(*[changed(patient=n, split=part) for n, part in enumerate(("train", "val", "test"))])
    )
    assert own.splits.tolist() == ["train", "val", "test"]


def test_a_picture_that_is_not_there_is_absent_and_its_text_stays(write):
    bare = changed(image=None, roi=..., description={"organ": "breast"})
    cohort = read_triplets(write(LINE, bare, bare, bare))
    assert cohort.present[:, 0].tolist() == [True, False, False, False]
    assert cohort.column("report")[1] == "Breast."
    assert cohort.column("roi_box")[1] is None


def test_blank_lines_and_a_byte_order_mark_are_no_triplets(write):
    path = write(b"\xef\xbb\xbf" + json.dumps(LINE).encode(), b"", b"  ", changed(image="images/b.png"))
    assert read_triplets(path).ids.tolist() == ["1", "4"]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"{not json", "line 2 is no JSON"),
        (b"[1, 2]", "line 2 should be an object"),
        (b'{"image": "a", "image": "b"}', "is there twice"),
        (b"\xff\xfe", "line 2 is not UTF-8"),
        (b"[" * 100_000, "line 2 is no JSON"),
        (json.dumps(LINE).replace("2, 3", "NaN, 3").encode(), "NaN is no number"),
        (changed(imgae="x"), 'line 2: Unknown field .*Did you mean "image"'),
        (changed(roi__bbox=[0, 0, 1, 1]), "field 'roi': Unknown field .*Did you mean \"box\""),
        (changed(description__side="left"), "field 'description': Unknown field"),
        (changed(source=...), 'the field "source" is missing'),
        (changed(image=...), 'the field "image" is missing'),
        (changed(source=" "), 'field "source" is empty'),
        (changed(modality=3), 'field "modality" should be text'),
        (changed(roi="everywhere"), 'field "roi" should be an object'),
        (changed(description=dict.fromkeys(PARTS, "")), "Describe at least one"),
        (changed(description__organ=["lung"]), 'field "description.organ" should be text'),
        (changed(roi__box=[1, 2, 3]), 'field "roi.box" should be four numbers'),
        (changed(roi__box=[1, 2, "3", 4]), 'field "roi.box" should be four numbers'),
        (changed(roi__box=[True, 2, 3, 4]), 'field "roi.box" should be four numbers'),
        (changed(roi__box=[5, 2, 3, 4]), "not .left, top, width, height."),
        (changed(roi__box=[-1, 2, 3, 4]), "0 <= left < right"),
        (changed(roi__box=[2, 3, 10, 10.5]), "leads out of its picture of 20 x 10"),
        (changed(roi__box=[2, 3, 21, 8]), "leads out of its picture of 20 x 10"),
        (changed(id="1"), "ids in more than one row"),
    ],
)
def test_whatever_is_wrong_with_a_line_is_said_with_its_place(write, line, words):
    with pytest.raises(ValueError, match=words):
        read_triplets(write(LINE, line))


def test_a_box_of_the_whole_picture_fits_and_one_on_a_turned_picture_too(write, tmp_path):
    picture = Picture.fromarray(np.zeros((20, 10), np.uint8))
    exif = picture.getexif()
    exif[0x0112] = 6  # shown as 20 wide and 10 high
    picture.save(tmp_path / "images" / "turned.jpg", exif=exif)
    whole = [0, 0, 20, 10]
    turned = changed(image="images/turned.jpg", roi={"box": whole})
    assert len(read_triplets(write(changed(roi__box=whole), turned))) == 2


def test_paths_stay_in_the_folder_and_lead_somewhere(write, tmp_path):
    outside = tmp_path.parent / "outside.png"
    Picture.fromarray(np.zeros((10, 20), np.uint8)).save(outside)
    for name in ("../outside.png", str(outside)):
        for line in (changed(image=name), changed(roi__mask=name)):
            with pytest.raises(UnsafePath, match="line 2"):
                read_triplets(write(LINE, line))
    with pytest.raises(MissingFile, match='line 2, field "image"'):
        read_triplets(write(LINE, changed(image="images/c.png")))
    lines = (LINE, LINE, changed(image="images/c.png"))
    assert read_triplets(write(*lines), missing_files="absent").present[:, 0].tolist() == [True, True, False]


def test_a_mask_of_another_size_is_refused(write, tmp_path):
    Picture.fromarray(np.zeros((11, 20), np.uint8)).save(tmp_path / "masks" / "b.png")
    with pytest.raises(ValueError, match=r"line 1, field \"roi.mask\""):
        read_triplets(write(changed(roi__mask="masks/b.png")))


def test_an_empty_file_and_none_at_all(write, tmp_path):
    with pytest.raises(ValueError, match="holds no triplet"):
        read_triplets(write(b""))
    with pytest.raises(ValueError, match="There is no file"):
        read_triplets(tmp_path / "nothing.jsonl")


# ------------------------------------------------------------------------------------- written and read again


def test_lines_that_are_written_are_the_lines_that_were_read(write, tmp_path):
    cohort = read_triplets(write(*many(), changed(id="t8", patient="p9", image=None, roi=...)))
    write_triplets(cohort, tmp_path / "again.jsonl")
    again = read_triplets(tmp_path / "again.jsonl")
    for name in cohort.source.columns:
        assert again.column(name) == cohort.column(name), name
    assert again.splits.tolist() == cohort.splits.tolist()
    write_triplets(again, tmp_path / "third.jsonl")
    assert (tmp_path / "third.jsonl").read_bytes() == (tmp_path / "again.jsonl").read_bytes()


def test_files_that_the_new_place_cannot_name_are_refused(write, tmp_path):
    with pytest.raises(ValueError, match="Write the triplets into the folder"):
        write_triplets(read_triplets(write(*many())), tmp_path / "elsewhere" / "t.jsonl")
    with pytest.raises(ValueError, match="does not hold triplets"):
        write_triplets(load_cohort("synthetic", patients=4), tmp_path / "t.jsonl")


@pytest.fixture(scope="module")
def synthetic():
    return load_cohort("synthetic", patients=30, seed=1)


def test_every_lesion_of_a_picture_is_a_triplet_whose_box_is_tight(synthetic):
    cohort = triplets_from(synthetic)
    made = synthetic.truth.made
    assert len(cohort) == sum(len(scene.lesions) for scene in made.scenes)
    for box, mask in zip(cohort.column("roi_box"), cohort.column("roi_mask"), strict=True):
        left, top, right, bottom = map(int, box)
        inside = np.zeros_like(mask)
        inside[top:bottom, left:right] = True
        assert not (mask & ~inside).any()
        assert mask[top].any()
        assert mask[bottom - 1].any()
        assert mask[:, left].any()
        assert mask[:, right - 1].any()


def test_a_right_sided_lesion_lies_on_the_left_of_the_picture(synthetic):
    cohort = triplets_from(synthetic)
    for box, organ in zip(cohort.column("roi_box"), cohort.column("organ"), strict=True):
        assert (organ == "right lung") == ((box[0] + box[2]) / 2 < 32)


def test_patients_and_split_stay_and_hidden_pictures_make_no_triplet(synthetic):
    cohort = triplets_from(synthetic)
    parts = dict(zip(synthetic.groups, synthetic.splits, strict=True))
    assert cohort.splits.tolist() == [parts[patient] for patient in cohort.groups]
    stays = synthetic.present.copy()
    stays[::2, 0] = False
    seen = triplets_from(synthetic.keep(stays))
    assert set(seen.groups) == set(synthetic.groups[1::2])
    with pytest.raises(ValueError, match="shows a lesion"):
        triplets_from(synthetic.without("image"))


def test_synthetic_triplets_survive_the_round_trip_with_pictures_and_masks(synthetic, tmp_path):
    cohort = triplets_from(synthetic)
    write_triplets(cohort, tmp_path / "new" / "t.jsonl")
    again = read_triplets(tmp_path / "new" / "t.jsonl")
    files = {"image", "roi_mask"}
    for name in set(cohort.source.columns) - files:
        assert again.column(name) == cohort.column(name), name
    for path, mask in zip(again.column("roi_mask"), cohort.column("roi_mask"), strict=True):
        assert np.array_equal(np.asarray(Picture.open(tmp_path / "new" / path)) > 0, mask)
    pixels, told = (c.collate(list(c)).values["image"]["pixels"] for c in (again, cohort))
    assert np.allclose(pixels, told)
    assert len(list((tmp_path / "new" / "images").iterdir())) == len(set(cohort.groups))  # each picture once


def test_only_a_synthetic_cohort_of_one_view_has_lesions_to_tell(write):
    with pytest.raises(ValueError, match="read_triplets"):
        triplets_from(read_triplets(write(*many())))
    with pytest.raises(ValueError, match="Pass views=1"):
        triplets_from(load_cohort("synthetic", patients=3, views=2))
