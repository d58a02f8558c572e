"""Whatever bytes a hospital sends, a reader answers with a picture or with a ValueError that names the
record."""

import io
import logging
import warnings

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from mmmed.data.readers import read_image
from mmmed.data.volumes import read_spacing, read_volume

WHERE = 'record "a1", column "image"'
PIXELS = np.random.default_rng(0).integers(0, 256, (24, 20, 3), dtype=np.uint8)
FUZZ = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(autouse=True)
def quiet():
    """Decoders comment on broken files at length."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.disable(logging.CRITICAL)
        yield
        logging.disable(logging.NOTSET)


def picture(kind, **options):
    stream = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(PIXELS).save(
        stream, kind, **({"exif": exif} if kind in ("PNG", "JPEG") else {}), **options
    )
    return stream.getvalue()


def dicom(syntax):
    pydicom = pytest.importorskip("pydicom")
    dataset = pydicom.Dataset()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1"
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = "1.2.3"
    dataset.Rows, dataset.Columns, dataset.SamplesPerPixel = 16, 16, 1
    dataset.PhotometricInterpretation, dataset.PixelRepresentation = "MONOCHROME1", 0
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 12, 11
    dataset.RescaleSlope, dataset.RescaleIntercept = "2", "-100"
    dataset.WindowCenter, dataset.WindowWidth, dataset.PixelPaddingValue = "1000", "800", 0
    dataset.PixelData = PIXELS[:16, :16].astype(np.uint16).sum(2).astype(np.uint16).tobytes()
    dataset["PixelData"].VR = "OW"
    if syntax == "RLE":
        dataset.compress(pydicom.uid.RLELossless)
    stream = io.BytesIO()
    pydicom.dcmwrite(stream, dataset, enforce_file_format=True)
    return stream.getvalue()


def volume(kind, folder):
    values = np.random.default_rng(0).random((6, 7, 8)).astype(np.float32)
    if kind.startswith(".nii"):
        nibabel = pytest.importorskip("nibabel")
        nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), folder / f"valid{kind}")
    else:
        save = {".npz": np.savez, "packed.npz": np.savez_compressed, ".npy": np.save}[kind]
        save(folder / f"valid{kind}", values)
    return (folder / f"valid{kind}").read_bytes()


PICTURES = {
    **{
        kind: lambda kind=kind: picture(kind)
        for kind in ("PNG", "JPEG", "TIFF", "GIF", "BMP", "WEBP", "JPEG2000")
    },
    "progressive JPEG": lambda: picture("JPEG", progressive=True),
    "packed TIFF": lambda: picture("TIFF", compression="tiff_deflate"),
    "DICOM": lambda: dicom("explicit"),
    "RLE DICOM": lambda: dicom("RLE"),
}
_made = {}


def made(kind):
    """Encode once; the examples then only break it."""
    if kind not in _made:
        _made[kind] = PICTURES[kind]()
    return _made[kind]


@st.composite
def broken(draw, data):
    """A valid file, cut anywhere, with some bytes overwritten, most of them near the beginning where headers
    are."""
    data = bytearray(data[: draw(st.integers(0, len(data)))] if draw(st.booleans()) else data)
    for _ in range(draw(st.integers(0, 8)) if data else 0):
        last = len(data) - 1
        place = draw(st.one_of(st.integers(0, min(last, 600)), st.integers(0, last)))
        data[place] = draw(st.one_of(st.integers(0, 255), st.sampled_from([0, 1, 127, 128, 255])))
    return bytes(data)


def outcome(read):
    """What came back, and the words of the ValueError if one did."""
    try:
        return read(), ""
    except ValueError as error:
        return None, str(error)


def survives(read):
    """True if it was read; nothing but a ValueError that begins with the place may come out."""
    values, text = outcome(read)
    if text:
        assert text.startswith(WHERE)
        assert len(text) < 1000
        return False
    assert values.dtype == np.float32
    assert np.isfinite(values).all()
    assert values.min() >= 0
    assert values.max() <= 1
    return True


@FUZZ
@given(st.binary(max_size=2000), st.sampled_from(["", "a.png", "a.dcm", "a.dicom"]))
def test_random_bytes_are_refused(data, name):
    assert not survives(lambda: read_image({"bytes": data, "path": name}, where=WHERE))


@FUZZ
@given(
    st.binary(max_size=500),
    st.sampled_from(
        [b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", b"II*\0", b"GIF89a", b"BM", bytes(128) + b"DICM"]
    ),
)
def test_random_bytes_after_a_true_beginning_are_survived(data, mark):
    survives(lambda: read_image(mark + data, where=WHERE))


@pytest.mark.parametrize("kind", list(PICTURES))
def test_the_whole_file_reads(kind):
    assert survives(lambda: read_image(made(kind), where=WHERE, size=(8, 8)))


@pytest.mark.parametrize("kind", list(PICTURES))
@FUZZ
@given(data=st.data(), channels=st.sampled_from([1, 3]), size=st.sampled_from([None, (8, 8)]))
def test_a_broken_picture_is_read_or_refused(kind, data, channels, size):
    content = data.draw(broken(made(kind)))
    survives(lambda: read_image(content, channels=channels, size=size, where=WHERE))


@pytest.mark.parametrize("kind", [".nii", ".nii.gz", ".npz", "packed.npz", ".npy"])
@FUZZ
@given(data=st.data(), size=st.sampled_from([None, (4, 4, 4)]))
def test_a_broken_volume_is_read_or_refused(kind, data, size, tmp_path_factory):
    if kind not in _made:
        folder = tmp_path_factory.mktemp("volumes")
        _made[kind] = (folder, volume(kind, folder))
    folder, valid = _made[kind]
    content = data.draw(st.one_of(broken(valid), broken(valid), st.binary(max_size=500)))
    (folder / f"a{kind}").write_bytes(content)
    survives(lambda: read_volume(f"a{kind}", size=size, folder=folder, where=WHERE))
    spacing, text = outcome(lambda: read_spacing(f"a{kind}", folder=folder, where=WHERE))
    assert spacing is None or len(spacing) == 3
    assert not text or text.startswith(WHERE)


@settings(deadline=None, max_examples=60)
@given(
    st.one_of(
        *(st.none(), st.integers(), st.floats(), st.text(), st.lists(st.integers(), max_size=3)),
        st.dictionaries(
            st.sampled_from(["bytes", "path", "x"]), st.one_of(st.none(), st.text(), st.binary())
        ),
    )
)
def test_any_cell_of_a_table_is_read_or_refused(cell):
    for read in (read_image, read_volume):
        assert not survives(lambda read=read: read(cell, where=WHERE, folder="/nowhere"))
