"""The grid of a file is told from its header as the readers find it; spacing only where the file says it."""

import io

import numpy as np
import pytest
from PIL import Image as Picture

from mmmed.checks import MissingFile, UnreadableFile
from mmmed.data import grids, readers, volumes
from mmmed.data.grids import own_shape, spacing_of
from mmmed.data.readers import read_image
from mmmed.data.volumes import read_volume
from mmmed.types import Image, Volume

FLAT, DEEP = Image("image"), Volume("ct")


def dicom(shape=(6, 9), name="a.dcm", folder=None, **tags):
    """A DICOM file with 16-bit pixels; written into `folder`, or its bytes."""
    pydicom = pytest.importorskip("pydicom")
    dataset = pydicom.Dataset()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1"
    dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
    dataset.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    dataset.Rows, dataset.Columns = shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit, dataset.PixelRepresentation = 15, 0
    dataset.PixelData = np.arange(np.prod(shape), dtype=np.uint16).tobytes()
    dataset["PixelData"].VR = "OW"
    for tag, value in tags.items():
        setattr(dataset, tag, value)
    stream = io.BytesIO()
    pydicom.dcmwrite(stream, dataset, enforce_file_format=True)
    if folder is None:
        return stream.getvalue()
    (folder / name).write_bytes(stream.getvalue())
    return name


def nifti(folder, shape, axes="LPS", spacing=(1.0, 2.0, 3.0), name="a.nii.gz"):
    nibabel = pytest.importorskip("nibabel")
    image = nibabel.Nifti1Image(np.zeros(shape, np.uint8), np.diag([*spacing, 1.0]))
    wanted = nibabel.orientations.axcodes2ornt(axes)
    image = image.as_reoriented(
        nibabel.orientations.ornt_transform(nibabel.io_orientation(image.affine), wanted)
    )
    nibabel.save(image, folder / name)
    return name


# ----------------------------------------------------------------------------------------------------- shapes


@pytest.mark.parametrize("suffix", ["png", "jpg", "tiff", "webp"])
@pytest.mark.parametrize("turn", range(1, 9))
def test_a_turned_picture_has_the_shape_it_is_read_in(tmp_path, suffix, turn):
    exif = Picture.Exif()
    exif[0x0112] = turn
    Picture.new("L", (31, 20), 99).save(tmp_path / f"a.{suffix}", exif=exif)
    name, content = f"a.{suffix}", (tmp_path / f"a.{suffix}").read_bytes()
    by_hand = (31, 20) if turn >= 5 else (20, 31)
    # Opened as a stream: Pillow 12.3 maps an uncompressed TIFF that it opens by name, and turns it twice.
    with Picture.open(io.BytesIO(content)) as picture:
        for source in (name, content, {"bytes": content, "path": name}, picture):
            assert own_shape(source, FLAT, folder=tmp_path) == by_hand
            assert read_image(source, folder=tmp_path).shape[1:] == by_hand


@pytest.mark.parametrize("shape", [(20, 31), (20, 31, 3), (3, 20, 31), (20, 31, 1), (20, 31, 4)])
def test_an_array_has_the_shape_it_is_read_in(shape):
    assert own_shape(np.zeros(shape, np.uint8), FLAT) == (20, 31)


def test_a_dicom_file_tells_rows_and_columns(tmp_path):
    name = dicom(folder=tmp_path)
    for source in (name, (tmp_path / name).read_bytes()):
        assert own_shape(source, FLAT, folder=tmp_path) == (6, 9)


@pytest.mark.parametrize("axes", ["RAS", "LPS", "SAR", "PIL", "IRA"])
def test_a_nifti_file_has_the_shape_and_spacing_it_is_read_in(tmp_path, axes):
    name = nifti(tmp_path, (5, 6, 7), axes)  # right, anterior, superior before it is stored otherwise
    assert own_shape(name, DEEP, folder=tmp_path) == (7, 6, 5)
    assert read_volume(name, folder=tmp_path).shape[1:] == (7, 6, 5)
    assert spacing_of(name, DEEP, folder=tmp_path) == ((3.0, 2.0, 1.0), "")


def test_channels_are_no_part_of_the_grid(tmp_path):
    two = Volume("ct", channels=2)
    name = nifti(tmp_path, (5, 6, 7, 2))
    for source in (name, np.zeros((7, 6, 5, 2)), np.zeros((2, 7, 6, 5))):
        assert own_shape(source, two, folder=tmp_path) == (7, 6, 5)
        with pytest.raises(UnreadableFile, match="should have shape"):
            own_shape(source, DEEP, folder=tmp_path)


def test_arrays_in_files_tell_their_shape(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((3, 4, 5), np.float16))
    np.savez(tmp_path / "a.npz", ct=np.zeros((4, 4, 5)), other=np.zeros(2))
    assert own_shape("a.npy", DEEP, folder=tmp_path) == (3, 4, 5)
    assert own_shape("a.npz", Volume("ct", key="ct"), folder=tmp_path) == (4, 4, 5)
    assert own_shape(np.zeros((3, 4, 5)), DEEP) == (3, 4, 5)


def test_no_pixel_is_decoded_where_a_header_tells(tmp_path, monkeypatch):
    Picture.new("L", (31, 20)).save(tmp_path / "a.jpg")
    np.save(tmp_path / "a.npy", np.zeros((3, 4, 5)))
    nifti(tmp_path, (5, 6, 7), "LPS")
    dicom(folder=tmp_path)

    def refuse(*_, **__):
        raise AssertionError("pixels were decoded")

    monkeypatch.setattr(readers, "read_image", refuse)
    monkeypatch.setattr(Picture.Image, "load", refuse)
    monkeypatch.setattr(volumes, "_from_file", refuse)
    monkeypatch.setattr(np.lib.format, "read_array", refuse)
    nibabel = pytest.importorskip("nibabel")
    monkeypatch.setattr(nibabel.arrayproxy.ArrayProxy, "__array__", refuse)
    shapes = [own_shape(name, FLAT, folder=tmp_path) for name in ("a.jpg", "a.dcm")]
    shapes += [own_shape(name, DEEP, folder=tmp_path) for name in ("a.npy", "a.nii.gz")]
    assert shapes == [(20, 31), (6, 9), (3, 4, 5), (7, 6, 5)]


def test_what_cannot_be_read_says_what_the_reader_says(tmp_path):
    (tmp_path / "text.png").write_bytes(b"no picture")
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "text.dcm").write_bytes(b"no picture" * 40)
    (tmp_path / "cut.nii").write_bytes(b"\0" * 20)
    (tmp_path / "cut.npy").write_bytes(b"\x93NUMPY\x01")
    frames = dicom(folder=tmp_path, name="frames.dcm", NumberOfFrames=2)
    for name in ("text.png", "empty.png", "text.dcm", frames):
        messages = []
        for read in (lambda s, **o: own_shape(s, FLAT, **o), read_image):
            with pytest.raises(UnreadableFile) as error:
                read(name, folder=tmp_path, where="here")
            messages.append(str(error.value))
        assert messages[0] == messages[1]
    for name in ("cut.nii", "cut.npy"):
        with pytest.raises(UnreadableFile, match=f"here: {name}"):
            own_shape(name, DEEP, folder=tmp_path, where="here")
    with pytest.raises(MissingFile):
        own_shape("none.png", FLAT, folder=tmp_path)


# ---------------------------------------------------------------------------------------------------- spacing


@pytest.mark.parametrize(
    ("tags", "spacing", "at_detector"),
    [
        ({}, None, False),
        ({"PixelSpacing": [0.5, 0.7]}, (0.5, 0.7), False),
        ({"ImagerPixelSpacing": [0.2, 0.1]}, (0.2, 0.1), True),
        ({"ImagerPixelSpacing": [0.2, 0.1], "PixelSpacingCalibrationType": "FIDUCIAL"}, (0.2, 0.1), True),
        ({"PixelSpacing": [0.2, 0.2], "ImagerPixelSpacing": [0.2, 0.2]}, (0.2, 0.2), True),
        ({"PixelSpacing": [0.1, 0.1], "ImagerPixelSpacing": [0.2, 0.2]}, (0.1, 0.1), False),
        (
            {
                "PixelSpacing": [0.2, 0.2],
                "ImagerPixelSpacing": [0.2, 0.2],
                "PixelSpacingCalibrationType": "GEOMETRY",
            },
            (0.2, 0.2),
            False,
        ),
    ],
)
def test_dicom_spacing_is_rows_first_and_the_detector_is_mentioned(tmp_path, tags, spacing, at_detector):
    name = dicom(folder=tmp_path, **tags)
    for source in (name, (tmp_path / name).read_bytes()):
        assert spacing_of(source, FLAT, folder=tmp_path) == (spacing, grids._AT_DETECTOR * at_detector)


def test_a_spacing_that_is_no_length_is_not_used_and_mentioned():
    spacing, note = spacing_of(dicom(PixelSpacing=[0, 0]), FLAT)
    assert spacing is None
    assert "no length" in note


def test_where_the_file_does_not_say_nothing_is_known(tmp_path):
    Picture.new("L", (31, 20)).save(tmp_path / "a.png", dpi=(300, 300))
    np.save(tmp_path / "a.npy", np.zeros((3, 4, 5)))
    for source in ("a.png", np.zeros((4, 5), np.uint8), Picture.new("L", (3, 3))):
        assert spacing_of(source, FLAT, folder=tmp_path) == (None, "")
    for source in ("a.npy", np.zeros((3, 4, 5))):
        assert spacing_of(source, DEEP, folder=tmp_path) == (None, "")
