"""What a visitor types and uploads is used and shown; what cannot be read becomes a sentence, and no more."""

import io

import numpy as np
import pytest
from mmmed_demo.screenshots import choose, switch_off
from PIL import Image
from playwright.sync_api import expect

FILE, STATE = "#file-0", "#state-0"
TRACES = ("Traceback", "/tmp", "site-packages", "NoneType", "Something went wrong")
PNG = "image/png"


@pytest.fixture
def empty(page):
    """The page of a patient of whom nothing is recorded yet."""
    choose(page, "nothing recorded")
    page.wait_for_function("() => document.querySelectorAll('#panel-path .mm-absent').length === 3")
    return page


def png(seed=0, side=64):
    """A picture of noise, as the bytes of a PNG."""
    content = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side), dtype=np.uint8)
    Image.fromarray(pixels).save(content, format="PNG")
    return content.getvalue()


def dicom():
    """A small radiograph as a DICOM file."""
    pydicom = pytest.importorskip("pydicom", reason='pydicom is missing: pip install "mmmed[imaging]"')
    from pydicom.uid import ExplicitVRLittleEndian

    values = (np.arange(64 * 64).reshape(64, 64) % 4096).astype(np.uint16)
    made = pydicom.Dataset()
    made.file_meta = pydicom.dataset.FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.file_meta.MediaStorageSOPClassUID = made.SOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
    made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID = "1.2.3"
    made.Rows, made.Columns = values.shape
    made.SamplesPerPixel, made.PhotometricInterpretation = 1, "MONOCHROME2"
    made.BitsAllocated = made.BitsStored = 16
    made.HighBit, made.PixelRepresentation = 15, 0
    made.PixelData = values.tobytes()
    content = io.BytesIO()
    pydicom.dcmwrite(content, made, enforce_file_format=True)
    return content.getvalue()


def upload(page, name, content, kind="application/octet-stream"):
    page.locator(f"{FILE} input[type=file]").set_input_files(
        {"name": name, "mimeType": kind, "buffer": content}
    )


def sentence(page):
    """What the page says went wrong, once it does; it never shows how."""
    alert = page.locator("#problem [role=alert]")
    alert.wait_for()
    assert alert.is_visible()
    said = alert.inner_text()
    assert not any(trace in page.locator("body").inner_text() for trace in TRACES)
    return said


@pytest.mark.parametrize("name", ["chest.png", "chest.dcm"])
def test_a_picture_that_is_uploaded_is_switched_on_used_and_shown(empty, name):
    nothing = empty.locator("#headline b").inner_text()
    upload(empty, name, png() if name.endswith("png") else dicom())
    empty.locator(f"{STATE} img").wait_for()
    assert "in use" in empty.locator(STATE).inner_text()
    expect(empty.get_by_label("with image", exact=True)).to_be_checked()
    assert empty.locator("#panel-path .mm-absent").count() == 2
    chips = empty.locator("#panel-risk .mm-chips").inner_text()
    assert "image\nused" in chips
    assert "text\nabsent" in chips
    assert empty.locator("#headline b").inner_text() != nothing
    assert empty.locator("#problem [role=alert]").count() == 0


def test_a_bad_file_is_a_sentence_and_the_page_goes_on_when_it_is_taken_out(empty, picture):
    bad = {
        "notes.png": b"Dear colleague, thank you for sending this patient.",
        "half.png": png()[:2000],
        "<img src=x onerror=window.hit=1>.png": b"GIF89a and no more",
    }
    for name, content in bad.items():
        upload(empty, name, content, PNG)
        said = sentence(empty)
        assert said.strip("⚠ ").endswith(".")
        assert ".png" in said
        picture(empty, f"error_{name[:4].strip('<')}")
        empty.locator(f"{FILE} button[aria-label=Clear]").click()
        empty.locator("#problem [role=alert]").wait_for(state="detached")
        empty.locator(f"{FILE} input[type=file]").wait_for(state="attached")
    assert empty.evaluate("window.hit") is None
    choose(empty, "complete")
    switch_off(empty, "image")


def test_a_program_is_not_even_taken(empty):
    upload(empty, "setup.exe", b"MZ\x90\x00" + bytes(200))
    empty.get_by_text("Invalid file type").or_(empty.locator("#problem [role=alert]")).first.wait_for()
    assert "not recorded" in empty.locator(STATE).inner_text()
    upload(empty, "chest.png", png(), PNG)
    empty.locator(f"{STATE} img").wait_for()


def test_a_number_that_cannot_be_is_a_sentence_and_a_better_one_takes_it_away(page):
    age = page.get_by_label("age [years]")
    before = age.input_value()
    age.fill("412")
    said = sentence(page)
    assert "age" in said
    assert "412" in said
    assert "120" in said
    age.fill(before)
    page.locator("#problem [role=alert]").wait_for(state="detached")
    switch_off(page, "image")


def test_a_cell_that_is_emptied_counts_as_not_recorded(page):
    page.get_by_label("ldh", exact=False).first.fill("")
    expect(page.locator("#panel-risk .mm-said").last).to_contain_text("Not recorded in table: ldh")


def test_a_note_that_is_typed_switches_the_text_on(empty):
    assert not empty.get_by_label("with text", exact=True).is_checked()
    empty.locator("#text-2 textarea").fill("Cough for three weeks. Nodule in the left upper zone.")
    expect(empty.get_by_label("with text", exact=True)).to_be_checked()
    expect(empty.locator("#panel-risk .mm-chips")).to_contain_text("textused")
    empty.locator("#text-2 textarea").fill("")
    expect(empty.locator("#panel-risk .mm-chips")).to_contain_text("textabsent")


def test_a_note_that_is_pasted_counts_as_one_that_is_typed(visit):
    page = visit(permissions=["clipboard-read", "clipboard-write"])
    choose(page, "no image")
    page.evaluate("navigator.clipboard.writeText('No complaints.')")
    page.locator("#text-2 textarea").focus()
    before = page.locator("#panel-shares").inner_html()
    page.keyboard.press("Control+A")
    page.keyboard.press("Control+V")
    page.wait_for_function("old => document.querySelector('#panel-shares').innerHTML !== old", arg=before)
