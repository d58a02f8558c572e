"""Masks on the command line: asked, written, taught, scored; the wrong verb says which one is right."""

import json

import numpy as np
import pytest
from PIL import Image as Picture
from small_reporter import make_cohort, make_reporter
from small_segmenter import PICTURE, TEXTS, VOLUMES, make_segmenter, picture
from typed_command import refused, run

import mmmed
from mmmed.checks import MissingFile
from mmmed.cli.segment import ask_for_masks, asked_of, describe
from mmmed.models.create import create_model
from mmmed.models.referring_segmenter import ReferringSegmenter
from mmmed.types import Binary, Mask, Number, Schema, Tabular

RING = TEXTS[2]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("segmenter") / "model"
    make_segmenter(PICTURE).save_pretrained(folder)
    return folder


@pytest.fixture
def scan(tmp_path):
    Picture.fromarray(picture((20, 30))).save(tmp_path / "scan.png")
    return tmp_path / "scan.png"


@pytest.fixture(scope="module")
def predictor(tmp_path_factory):
    folder = tmp_path_factory.mktemp("predictor") / "model"
    schema = Schema({"t": Tabular((Number("a"),))}, {"y": Binary("y")})
    create_model(schema, dim=8, state_dim=8).save_pretrained(folder)
    return folder


def test_a_picture_is_answered_in_a_table(model, scan):
    said = run(
        "segment", model, scan, "--phrase", RING, "--phrase", "the [bold]zebra[/bold]", "--threshold", 0
    )
    heads, first, second, *rest = said.splitlines()
    assert heads.split() == ["phrase", "there?", "presence", "size"]
    assert first.startswith(f"{RING} ")
    assert "yes" in first
    assert "% of it" in first
    assert second.startswith("the [bold]zebra[/bold]"), "text of the user is no markup"
    assert any("record scan; used: image; missing: nothing" in line for line in rest)
    assert any('note: the word "zebra"' in line for line in rest)
    assert "Not a medical device" in rest[-1]


def test_below_the_threshold_it_is_not_there(model, scan):
    said = run("segment", model, scan, "--phrase", RING, "--threshold", 1)
    assert said.splitlines()[1].split()[-2] == "no"


def test_json_is_what_the_masks_say(model, scan):
    options = ("--phrase", RING, "--phrase", TEXTS[0], "--spacing", "0.5,0.25", "--json")
    masks = json.loads(run("segment", model, scan, *options))["masks"]
    loaded = mmmed.load_model(model)
    expected = loaded.segment(scan, [RING, TEXTS[0]], spacing=(0.5, 0.25))
    assert masks == [json.loads(json.dumps(mask.to_dict())) for mask in expected]
    assert masks[0]["size"] == pytest.approx(expected[0].pixels.sum() / 8)


def test_masks_and_overlays_are_written(model, scan, tmp_path):
    out = tmp_path / "found" / "here"
    said = run("segment", model, scan, "--phrase", RING, "--phrase", TEXTS[0], "-o", out, "--threshold", 0)
    assert "Masks, overlays and masks.json" in said
    names = sorted(path.name for path in out.iterdir())
    assert names == ["mask_1.png", "mask_2.png", "masks.json", "overlay_1.png", "overlay_2.png"]
    expected = mmmed.load_model(model).segment(scan, RING, threshold=0)
    assert np.array_equal(np.array(Picture.open(out / "mask_1.png")), expected.pixels)
    assert Picture.open(out / "overlay_1.png").size == (30, 20)
    told = json.loads((out / "masks.json").read_text())["masks"]
    assert [one["phrase"] for one in told] == [RING, TEXTS[0]]
    assert told[1]["files"] == {"mask": "mask_2.png", "overlay": "overlay_2.png"}


def test_volumes_are_read_from_a_json_file_and_written_as_arrays(tmp_path):
    make_segmenter(VOLUMES).save_pretrained(tmp_path / "model")
    np.save(tmp_path / "flair.npy", picture((5, 9, 8)))
    (tmp_path / "patient.json").write_text(json.dumps({"flair": "flair.npy"}))
    out = tmp_path / "out"
    said = run("segment", tmp_path / "model", tmp_path / "patient.json", "--phrase", RING, "-o", out)
    assert "record patient; used: flair; missing: pre, post" in said
    with np.load(out / "mask_1.npz") as archive:
        assert archive["mask"].shape == (5, 9, 8)
    said = refused("segment", tmp_path / "model", tmp_path / "flair.npy", "--phrase", RING)
    assert "does not say which one it is" in said
    assert 'Give a JSON file with one record, such as {"flair": "flair.nii.gz", "pre": "pre.nii.gz"}' in said


def test_a_record_of_a_cohort_or_a_table_is_asked_by_its_id(model, scan, tmp_path):
    (tmp_path / "table.csv").write_text("id,picture\na1,scan.png\nb2,scan.png\n")
    mmmed.Cohort.from_csv(tmp_path / "table.csv", image="picture", id="id").save(tmp_path / "cohort")
    for source, name in ((tmp_path / "cohort", "b2"), (tmp_path / "table.csv", "1")):
        said = run("segment", model, source, "--record", name, "--phrase", RING)
        assert f"record {name}; used: image" in said
        assert "takes one of" in refused("segment", model, source, "--phrase", RING)
        assert "There is no record 'c3'" in refused(
            "segment", model, source, "--phrase", RING, "--record", "c3"
        )
    (tmp_path / "one.csv").write_text("picture\nscan.png\n")
    assert "record 0; used: image" in run("segment", model, tmp_path / "one.csv", "--phrase", RING)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("{model}", "{scan}"), "Say what to look for"),
        (("{model}", "{scan}", "--phrase", " "), "should say what to look for"),
        (("{model}", "{scan}", "--phrase", "x", "--spacing", "wide"), "--spacing takes mm"),
        (("{model}", "{scan}", "--phrase", "x", "--spacing", "1,2,3"), "2 lengths"),
        (("{model}", "{scan}", "--phrase", "x", "--spacing", "0,1"), "all positive"),
        (("{model}", "{scan}", "--phrase", "x", "--threshold", "1.5"), "threshold should be"),
        (("{model}", "{scan}", "--phrase", "x", "--record", "a1"), "--record is for cohorts"),
        (("{model}", "gone.png", "--phrase", "x"), "is no file"),
        (("{model}", "gone.json", "--phrase", "x"), "is no file"),
        (("{model}", "synthetics", "--phrase", "x"), 'Did you mean "synthetic"'),
        (("{model}", "diabetes", "--phrase", "x"), "The model draws on image"),
        (("nowhere", "{scan}", "--phrase", "x"), "no folder"),
    ],
)
def test_a_mistake_ends_in_a_sentence_and_code_two(model, scan, words, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said = refused("segment", *(word.format(model=model, scan=scan) for word in words), "-o", "out")
    assert message in said
    assert not (tmp_path / "out").exists(), "nothing half-written"


def test_a_broken_picture_is_named(model, tmp_path):
    (tmp_path / "scan.png").write_bytes(b"no picture")
    assert "is no picture that can be read" in refused(
        "segment", model, tmp_path / "scan.png", "--phrase", RING
    )


def test_the_wrong_verb_says_which_one_is_right(model, predictor, scan, tmp_path):
    (tmp_path / "row.json").write_text("{}")
    said = refused("evaluate", predictor, "diabetes", "--phrases", "words.csv")
    assert "is for a model that draws masks" in said
    said = refused("segment", predictor, scan, "--phrase", RING)
    assert f"use mmmed predict {predictor}" in said
    for verb in ("predict", "report"):
        assert f"use mmmed segment {model}" in refused(verb, model, tmp_path / "row.json")


def test_a_segmenter_is_taught_scored_and_saved(tmp_path, monkeypatch):
    cohort = make_cohort(60)
    monkeypatch.setattr("mmmed.cli.cohorts.open_cohort", lambda *_, **__: cohort)
    options = ("--task", "segment", "--epochs", 1, "-o", tmp_path / "run")
    said = run("finetune", "synthetic", *options)
    for word in ("training of masks", "test part", "Dice", "The segmenter:"):
        assert word in said, word
    model = tmp_path / "run" / "model"
    assert "Masks of the test part" in (model / "README.md").read_text()
    again = json.loads(run("finetune", "synthetic", *options, "--json"))  # it is finished: nothing is learned
    assert again["best_epoch"] == 1
    assert again["test"]["scores"]
    scores = json.loads(run("evaluate", model, "synthetic", "--json"))
    assert scores == again["test"]
    assert "Dice" in run("evaluate", model, "synthetic")
    assert "--stress takes away" in refused("evaluate", model, "synthetic", "--stress")
    record = next(record.id for record in cohort if "image" in record.inputs)
    assert f"record {record}" in run(
        "segment", model, "synthetic", "--record", record, "--phrase", "the nodule"
    )


def test_phrases_of_ones_own_are_taught_and_scored(tmp_path):
    rows, asked = ["id,picture,split"], ["record,expression,mask"]
    for number in range(8):
        Picture.fromarray(picture((16, 24), number)).save(tmp_path / f"{number}.png")
        Picture.fromarray(np.arange(384).reshape(16, 24) < 90).save(tmp_path / f"m{number}.png")
        rows.append(f"r{number},{number}.png,{'train' if number < 6 else 'test'}")
        asked += [f"r{number},the upper spot,m{number}.png", f"r{number},the lower spot,absent"]
    for name, lines in (("table.csv", rows), ("words.csv", asked)):
        (tmp_path / name).write_text("\n".join(lines) + "\n")
    cohort = mmmed.Cohort.from_csv(tmp_path / "table.csv", image="picture", id="id", split="split")
    cohort.save(tmp_path / "cohort")
    shared = (tmp_path / "cohort", "--phrases", tmp_path / "words.csv")
    said = run("finetune", *shared, "--task", "segment", "--epochs", 1, "-o", tmp_path / "run")
    assert "train phrases: 12" in said
    model = tmp_path / "run" / "model"
    scores = json.loads(run("evaluate", model, *shared, "--json"))["scores"]
    assert (scores["phrases"], scores["empty"]) == (4, 2)
    assert "No phrases" in refused("evaluate", model, tmp_path / "cohort")
    assert "gone.csv" in refused("evaluate", model, tmp_path / "cohort", "--phrases", "gone.csv")


@pytest.mark.filterwarnings("ignore:The table has no column")
def test_what_the_language_model_reads_of_a_row_is_read_too(tmp_path):
    cohort = make_cohort()
    reporter = make_reporter(cohort)
    made = ReferringSegmenter.from_cohort(cohort, query=reporter, dim=16, width=8)
    Picture.fromarray(picture((20, 30))).save(tmp_path / "scan.png")
    image, text = (reporter.schema.modalities[name].column for name in ("image", "text"))
    (tmp_path / "row.json").write_text(json.dumps({image: "scan.png", text: "cough"}))
    (mask,) = ask_for_masks(made, str(tmp_path / "row.json"), [RING])
    assert mask.used == ("image", "text")
    (tmp_path / "rows.csv").write_text(f"{image},{text}\nscan.png,cough\n")
    (mask,) = ask_for_masks(made, str(tmp_path / "rows.csv"), [RING])
    assert mask.used == ("image", "text")
    (tmp_path / "bare.csv").write_text(f"{image}\nscan.png\n")
    (mask,) = ask_for_masks(made, str(tmp_path / "bare.csv"), [RING])
    assert mask.used == ("image",)


def test_only_where_nothing_is_asked_is_nothing_scored(tmp_path):
    """A mask that is gone is an error: "nothing was scored" would hide it."""
    Picture.fromarray(picture((16, 24))).save(tmp_path / "a.png")
    (tmp_path / "table.csv").write_text("id,picture\nr1,a.png\nr2,a.png\n")
    (tmp_path / "words.csv").write_text("record,expression,mask\nr1,the spot,gone.png\n")
    cohort = mmmed.Cohort.from_csv(tmp_path / "table.csv", image="picture", id="id")
    assert asked_of(cohort.where([1]), str(tmp_path / "words.csv")) == ()
    with pytest.raises(MissingFile):
        asked_of(cohort, str(tmp_path / "words.csv"))
    with pytest.raises(ValueError, match="should have a column"):
        asked_of(cohort, str(tmp_path / "table.csv"))


def test_what_steers_a_terminal_is_not_said():
    mask = Mask("a\x1b]0;b", "the \x1b[31mspot\nbelow", np.zeros((2, 2), bool), 0.1, False, notes=("c\x07d",))
    for said in (describe([mask]), str(mask)):
        assert "the [31mspot below" in said
        assert "note: cd" in said
        assert all(letter.isprintable() or letter == "\n" for letter in said)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--task", "segment", "--fusion", "concat"), "word-pixel fusion"),
        (("--task", "segment", "--pyramid", "resnet"), "A pyramid is"),
        (("--task", "segment", "--encoder", "image=cnn"), "--pyramid sees"),
        (("--task", "segment", "--findings", "chest"), "are for --task report"),
        (("--task", "segment", "--phrases", "gone.csv"), "gone.csv"),
        (("--pyramid", "timm:resnet18"), "are for --task segment"),
        (("--task", "segmnt"), 'Did you mean "segment"'),
    ],
)
def test_options_that_do_not_go_together_are_refused(words, message, tmp_path, monkeypatch):
    cohort = make_cohort(20)
    monkeypatch.setattr("mmmed.cli.cohorts.open_cohort", lambda *_, **__: cohort)
    monkeypatch.chdir(tmp_path)
    assert message in refused("finetune", "synthetic", *words, "-o", "x")
    assert not (tmp_path / "x").exists()


def test_help_names_the_way_to_masks():
    assert "segment" in run("--help")
    assert len(run("segment", "--help").splitlines()) > 5
