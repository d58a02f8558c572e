"""DICOM: tables, window and inversion in the order of the standard, by hand; what is no picture says so."""

import io
import sys

import numpy as np
import pytest

from mmmed.checks import UnreadableFile
from mmmed.data.readers import read_image

WHERE = 'record "a1", column "image"'


def message(source, **options):
    with pytest.raises(UnreadableFile) as error:
        read_image(source, where=WHERE, **options)
    text = str(error.value)
    assert text.startswith(WHERE), text
    return text


def dicom(pixels, photometric="MONOCHROME2", bits=16, stored=None, syntax="1.2.840.10008.1.2.1", **tags):
    """A DICOM file around an array [height width] or [height width 3]; None leaves a tag out."""
    pydicom = pytest.importorskip("pydicom")
    dataset = pydicom.Dataset()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
    dataset.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    facts = {
        "Rows": pixels.shape[0],
        "Columns": pixels.shape[1],
        "SamplesPerPixel": pixels.shape[2] if pixels.ndim == 3 else 1,
        "PhotometricInterpretation": photometric,
        "BitsAllocated": bits,
        "BitsStored": stored or bits,
        "HighBit": (stored or bits) - 1,
        "PixelRepresentation": int(pixels.dtype.kind == "i"),
        "PixelData": pixels.tobytes() + b"\0" * (pixels.nbytes % 2),
    }
    if pixels.ndim == 3:
        facts["PlanarConfiguration"] = 0
    for name, value in {**facts, **tags}.items():
        if value is not None:
            setattr(dataset, name, value)
    dataset["PixelData"].VR = "OW" if bits > 8 else "OB"
    stream = io.BytesIO()
    pydicom.dcmwrite(stream, dataset, enforce_file_format=True)
    return stream.getvalue()


def table(first, bits, values, sequence):
    """One modality or VOI lookup table."""
    pydicom = pytest.importorskip("pydicom")
    item = pydicom.Dataset()
    item.add_new(0x00283002, "US", [len(values), first, bits])
    if sequence == "modality":
        item.add_new(0x00283004, "LO", "US")
    item.add_new(0x00283006, "US", values)
    return [item]


FOUR = np.array([[0, 1000], [2000, 4000]], dtype=np.uint16)


def test_dicom_without_a_window_spans_its_own_range_at_full_depth():
    np.testing.assert_allclose(read_image(dicom(FOUR))[0], FOUR / 4000, atol=1e-7)
    deep = np.arange(4096, dtype=np.uint16).reshape(64, 64)
    assert len(np.unique(read_image(dicom(deep, stored=12)))) == 4096


def test_dicom_is_known_by_its_mark_or_its_suffix(tmp_path):
    data = dicom(FOUR)
    (tmp_path / "noname").write_bytes(data)
    (tmp_path / "a.DCM").write_bytes(data)
    (tmp_path / "b.dicom").write_bytes(b"not at all")
    for source in ("noname", "a.DCM", data, {"bytes": data, "path": "x.dcm"}):
        assert read_image(source, folder=tmp_path).shape == (1, 2, 2)
    text = message("b.dicom", folder=tmp_path)
    assert "no DICOM file" in text
    assert "begins with b'not at a'" in text


def test_the_window_is_applied_after_the_rescaling():
    """Values 0 1000 2000 4000, slope 1, intercept -1000: -1000 0 1000 3000 HU; window 0..2000 HU (exact
    linear)."""
    tags = {"RescaleSlope": 1, "RescaleIntercept": -1000, "WindowCenter": 1000, "WindowWidth": 2000}
    values = read_image(dicom(FOUR, VOILUTFunction="LINEAR_EXACT", **tags))[0]
    np.testing.assert_allclose(values, [[0, 0], [0.5, 1]], atol=1e-6)


def test_the_default_linear_window_is_that_of_the_standard():
    """PS3.3 C.11.2.1.2.1: y = (x - (c - .5)) / (w - 1) + .5, here c = 2000, w = 2001."""
    values = read_image(dicom(FOUR, WindowCenter=2000, WindowWidth=2001))[0]
    np.testing.assert_allclose(values, np.clip((FOUR - 1999.5) / 2000 + 0.5, 0, 1), atol=1e-6)


def test_a_sigmoid_window_and_the_first_of_several():
    tags = {"VOILUTFunction": "SIGMOID", "WindowCenter": [2000, 1], "WindowWidth": [1000, 2]}
    values = read_image(dicom(FOUR, **tags))[0]
    expected = 1 / (1 + np.exp(-4 * (FOUR.astype(float) - 2000) / 1000))
    np.testing.assert_allclose(values, expected, atol=1e-5)


@pytest.mark.parametrize("window", [{}, {"WindowCenter": 2000, "WindowWidth": 2001}])
def test_monochrome1_is_inverted_after_the_window(window):
    bright = read_image(dicom(FOUR, **window))
    np.testing.assert_allclose(read_image(dicom(FOUR, "MONOCHROME1", **window)), 1 - bright, atol=1e-6)


def test_a_falling_rescale_slope_turns_the_order_once():
    values = read_image(dicom(FOUR, RescaleSlope=-1, RescaleIntercept=4000))[0]
    np.testing.assert_allclose(values, 1 - FOUR / 4000, atol=1e-6)
    window = {"WindowCenter": 2000, "WindowWidth": 4000, "VOILUTFunction": "LINEAR_EXACT"}
    values = read_image(dicom(FOUR, RescaleSlope=-1, RescaleIntercept=4000, **window))[0]
    np.testing.assert_allclose(values, 1 - FOUR / 4000, atol=1e-6)


def test_signed_values_and_odd_depths_read():
    signed = np.array([[-1000, 0], [500, 1000]], dtype=np.int16)
    np.testing.assert_allclose(read_image(dicom(signed))[0], (signed + 1000) / 2000, atol=1e-6)
    small = np.array([[0, 7]], dtype=np.uint8)
    np.testing.assert_allclose(read_image(dicom(small, bits=8))[0], [[0, 1]])


def test_a_voi_table_maps_after_a_modality_table():
    """Modality table 0 1 2 3 -> 3 2 1 0, VOI table 0 1 2 3 -> 0 10 100 255 of 8 bits."""
    pixels = np.array([[0, 1], [2, 3]], dtype=np.uint8)
    tags = {
        "ModalityLUTSequence": table(0, 16, [3, 2, 1, 0], "modality"),
        "VOILUTSequence": table(0, 8, [0, 10, 100, 255], "voi"),
    }
    values = read_image(dicom(pixels, bits=8, **tags))[0]
    np.testing.assert_allclose(values * 255, [[255, 100], [10, 0]], atol=1e-4)


def test_padding_is_black_and_does_not_count():
    pixels = np.array([[-2000, 0], [500, 1000]], dtype=np.int16)
    for photometric, wanted in (("MONOCHROME2", [[0, 0], [0.5, 1]]), ("MONOCHROME1", [[0, 1], [0.5, 0]])):
        values = read_image(dicom(pixels, photometric, PixelPaddingValue=-2000))[0]
        np.testing.assert_allclose(values, wanted, atol=1e-6)


def test_a_constant_dicom_is_black():
    np.testing.assert_array_equal(read_image(dicom(np.full((3, 3), 77, np.uint16))), 0)


@pytest.mark.parametrize("photometric", ["RGB", "YBR_FULL"])
def test_colour_dicom_arrives_as_rgb(photometric):
    pydicom = pytest.importorskip("pydicom")
    rgb = np.array([[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [90, 90, 90]]], dtype=np.uint8)
    stored = rgb if photometric == "RGB" else pydicom.pixels.convert_color_space(rgb, "RGB", "YBR_FULL")
    values = read_image(dicom(stored, photometric, bits=8), channels=3)
    np.testing.assert_allclose(values, rgb.transpose(2, 0, 1) / 255, atol=0.01)
    np.testing.assert_allclose(
        read_image(dicom(stored, photometric, bits=8))[0, 0], [0.299, 0.587], atol=0.01
    )


def test_the_reference_files_of_pydicom_read():
    """CT and MR, big and little endian, RLE, JPEG, JPEG 2000, YBR, palette: all as they lie in the
    package."""
    pydicom = pytest.importorskip("pydicom")
    names = [
        "CT_small",
        "MR_small",
        "MR_small_RLE",
        "MR_small_bigendian",
        "MR_small_implicit",
        "examples_palette",
    ]
    names += [
        "SC_rgb_jpeg_dcmtk",
        "SC_rgb_rle",
        "JPEG2000",
        "SC_ybr_full_422_uncompressed",
        "examples_rgb_color",
    ]
    read = {}
    for name in names:
        data = pydicom.data.get_testdata_file(f"{name}.dcm", read=False, download=False)
        with open(data, "rb") as stream:
            read[name] = read_image(stream.read(), channels=3)
        assert 0 <= read[name].min() < read[name].max() <= 1, name
    np.testing.assert_array_equal(read["MR_small"], read["MR_small_RLE"])
    np.testing.assert_array_equal(read["MR_small"], read["MR_small_bigendian"])


def test_a_dicom_that_is_no_single_picture_says_what_to_do():
    pydicom = pytest.importorskip("pydicom")
    film = dicom(FOUR, NumberOfFrames=2, PixelData=FOUR.tobytes() * 2)
    text = message(film)
    assert "2 frames" in text
    assert "declare the column as a Volume" in text
    report = io.BytesIO()
    dataset = pydicom.dcmread(io.BytesIO(dicom(FOUR)))
    del dataset.PixelData
    dataset.save_as(report)
    assert "without pixels" in message(report.getvalue())
    assert "without pixels" in message(dicom(FOUR, Rows=None))


def test_a_dicom_bomb_is_refused_from_its_header(monkeypatch):
    text = message(dicom(FOUR, Rows=60_000, Columns=60_000))
    assert "60000 x 60000 pixels, more than the limit of 80,000,000" in text
    pydicom = pytest.importorskip("pydicom")
    dataset = pydicom.dcmread(io.BytesIO(dicom(FOUR)))
    dataset.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1.99"
    stream = io.BytesIO()
    dataset.save_as(stream)
    monkeypatch.setattr(pydicom, "dcmread", lambda *_: pytest.fail("it was unpacked"))
    assert "deflated DICOM" in message(stream.getvalue())


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (lambda: dicom(FOUR)[:-5], "cut off"),
        (lambda: dicom(FOUR)[:200], "cut off. Leave the cell empty, or copy the file again"),
        (lambda: dicom(FOUR, PixelData=b"\0\0"), "Export it again"),
        (lambda: dicom(FOUR, WindowCenter=5, WindowWidth=0), "Window Width must be greater"),
        (lambda: dicom(FOUR, RescaleSlope="1e308", RescaleIntercept="0"), "NaN or infinite"),
    ],
)
def test_a_damaged_dicom_is_unreadable(data, words):
    assert words in message(data())


def test_a_compression_without_its_plugin_names_the_plugin():
    pydicom = pytest.importorskip("pydicom")
    if pydicom.pixels.decoders.JPEGLSLosslessDecoder.is_available:
        pytest.skip("a plugin for JPEG-LS is installed")
    path = pydicom.data.get_testdata_file("MR_small_jpeg_ls_lossless.dcm", read=False, download=False)
    with open(path, "rb") as stream:
        text = message(stream.read())
    assert "JPEG-LS" in text
    assert "pylibjpeg" in text
    assert "without compression if pydicom names a plugin" in text


def test_without_pydicom_the_line_to_install_is_shown(monkeypatch):
    data = dicom(FOUR)
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(ImportError, match=r'"mmmed\[imaging\]"'):
        read_image(data)
    assert read_image(np.zeros((4, 4), np.uint8)).shape == (1, 4, 4)
