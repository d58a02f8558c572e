"""A visitor's file is looked at before it is read, and settings open nothing by themselves."""

import gzip
import io
import json
import zipfile

import numpy as np
import pytest
from mmmed_demo import guard
from PIL import Image as Picture

from mmmed.types import Number, Series


@pytest.fixture
def uploads(tmp_path, monkeypatch):
    """The folder that uploads come to."""
    folder = tmp_path / "uploads"
    folder.mkdir()
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(folder))
    return folder


def put(folder, name, content):
    path = folder / name
    path.write_bytes(content)
    return path


def png(width=8, height=8):
    stream = io.BytesIO()
    Picture.new("L", (width, height)).save(stream, "PNG")
    return stream.getvalue()


def npz(**arrays):
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)
    return stream.getvalue()


def nifti():
    """The header of a NIfTI file of 2 x 2 x 2 bytes, and its voxels."""
    head = bytearray(352)
    head[0:4] = (348).to_bytes(4, "little")
    head[40:56] = b"".join(n.to_bytes(2, "little") for n in (3, 2, 2, 2, 1, 1, 1, 1))
    head[70:74] = (2).to_bytes(2, "little") + (8).to_bytes(2, "little")
    head[108:112] = np.float32(352).tobytes()
    head[344:348] = b"n+1\0"
    return bytes(head) + bytes(8)


def test_a_picture_that_was_uploaded_may_be_read(uploads):
    path = put(uploads, "scan.png", png())
    assert guard.check_file(path, "Image") == path.resolve()


def test_what_lies_elsewhere_is_refused_and_so_is_a_link_to_it(uploads, tmp_path):
    secret = put(tmp_path, "secret.png", png())
    (uploads / "link.png").symlink_to(secret)
    for path in (secret, uploads / "link.png", uploads / ".." / "secret.png", "/etc/passwd"):
        with pytest.raises(ValueError, match="no file that was uploaded here"):
            guard.check_file(path, "Image")


@pytest.mark.parametrize(
    ("name", "content", "kind", "words"),
    [
        ("a.png", b"<svg onload=alert(1)>", "Image", "nothing that is known"),
        ("a.svg", b"<svg>", "Image", "should end in .png"),
        ("a.png", b"", "Image", "empty"),
        ("a.eps", b"%!PS", "Image", "should end in"),
        ("a.npz", png(), "Volume", "holds PNG"),
        ("a.nii.gz", gzip.compress(b"no scan" * 99, mtime=0), "Volume", "no NIfTI"),
        ("a.npy", nifti(), "Volume", "let its name end in .nii"),
        ("a.png", npz(a=np.zeros(3)), "Image", "zip archive"),
    ],
)
def test_the_content_counts_and_not_the_name(uploads, name, content, kind, words):
    with pytest.raises(ValueError, match=words):
        guard.check_file(put(uploads, name, content), kind)


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("a.JPG", b"\xff\xd8\xff\xe0", None),
        ("a.dcm", bytes(128) + b"DICM", None),
        ("a.webp", b"RIFF0000WEBP", None),
        ("a.npz", npz(volume=np.zeros((2, 2, 2), np.uint8)), "Volume"),
        ("a.nii", nifti(), "Volume"),
        ("a.nii.gz", gzip.compress(nifti(), mtime=0), "Volume"),
    ],
)
def test_formats_of_hospitals_are_known(uploads, name, content, kind):
    path = put(uploads, name, content)
    assert guard.content_of(path) in {**guard._FORMATS["Image"], **guard._FORMATS["Volume"]}
    if kind is not None and not name.startswith("a.nii"):
        assert guard.check_file(path, kind)


def test_a_small_file_that_unpacks_to_much_is_refused(uploads):
    limits = guard.Limits(pixels=10_000, voxels=10_000)
    with pytest.raises(ValueError, match="pixels; at most 10,000"):
        guard.check_file(put(uploads, "a.png", png(500, 500)), "Image", limits)
    bomb = npz(volume=np.zeros((100, 100, 100)))
    assert len(bomb) < 20_000
    with pytest.raises(ValueError, match="unpacks to more"):
        guard.check_file(put(uploads, "a.npz", bomb), "Volume", limits)
    with pytest.raises(ValueError, match="at most 0 MiB"):
        guard.check_file(put(uploads, "b.png", png()), "Image", guard.Limits(file=10))


def test_an_archive_holds_arrays_and_nothing_else(uploads):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("a.pkl", b"cos\nsystem\n")
    with pytest.raises(ValueError, match="something other than NumPy"):
        guard.check_file(put(uploads, "a.npz", stream.getvalue()), "Volume")


def test_voxels_are_counted_however_small_each_is(uploads):
    limits = guard.Limits(voxels=10_000)
    half = np.zeros(6000, np.uint8)
    for bomb in (npz(volume=np.zeros((30, 30, 30), np.uint8)), npz(first=half, second=half)):
        with pytest.raises(ValueError, match="voxels; at most 10,000"):
            guard.check_file(put(uploads, "a.npz", bomb), "Volume", limits)
    assert guard.check_file(put(uploads, "a.npz", npz(volume=half)), "Volume", limits)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (npz(a=np.array(["x"], dtype="<U9")), "not numbers"),
        (npz(a=np.zeros(3, dtype=[("x", "f4")])), "not numbers"),
        (b"no header", "cannot be read"),
        (b"\x93NUMPY\x09\x00", "cannot be read"),
        (b"", "cannot be read"),
    ],
)
def test_an_archive_of_what_is_no_array_of_numbers_is_refused(uploads, content, words):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("a.npy", content)
    made = content if content.startswith(b"PK") else stream.getvalue()
    with pytest.raises(ValueError, match=words):
        guard.check_file(put(uploads, "a.npz", made), "Volume")


def test_an_archive_whose_part_was_changed_is_refused(uploads):
    made = bytearray(npz(volume=np.arange(999)))
    made[60:90] = bytes(30)
    with pytest.raises(ValueError, match="cannot be read"):
        guard.check_file(put(uploads, "a.npz", bytes(made)), "Volume")


SERIES = Series("vitals", (Number("pulse"), Number("temperature")))


def test_a_series_is_read_from_csv_and_json_alike(uploads):
    table = put(uploads, "a.csv", b"time,pulse,name,temperature\n0,80,x,\n1,,y,37.5\n")
    steps = [{"time": 0.0, "pulse": 80.0}, {"time": 1.0, "temperature": 37.5}]
    assert guard.read_series(guard.check_file(table, "Series"), SERIES) == steps
    listed = put(uploads, "a.json", json.dumps(steps).encode())
    assert guard.read_series(guard.check_file(listed, "Series"), SERIES) == steps


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"time,pulse\n0,fast\n", "row 1, pulse: should be a number"),
        (b"time,pulse\n0,inf\n", "finite"),
        (b"hour,pulse\n0,80\n", "a column time"),
        (b"time,weight\n0,80\n", "some of pulse"),
        (b"", "at least one row"),
        (b"\xff\xfe\x00", "cannot be read"),
        (b"time,pulse\n" + b"0,1\n" * 2001, "2,001 rows"),
    ],
)
def test_a_series_that_cannot_be_read_is_answered_with_a_sentence(uploads, content, words):
    with pytest.raises(ValueError, match=words):
        guard.read_series(put(uploads, "a.csv", content or b"\n"), SERIES)


def test_an_error_on_the_page_names_no_folder_of_the_server():
    told = guard.plain_words(OSError(2, "No such file", "/home/anna/secret study/a.png"))
    assert "anna" not in told
    assert "a.png" in told
    assert guard.plain_words(ValueError("crp: 3/4 of 12 mg/l, see https://example.org/a/b")).endswith("/a/b")
    assert len(guard.plain_words(ValueError("x" * 10_000))) <= guard.LONGEST_WORDS


@pytest.mark.parametrize(
    "path",
    [
        "/home/anna maria/data/x.png",
        "/home/anna/x.png",
        "'/home/anna maria, ward 3/x.png'",
        "C:\\Users\\anna maria\\x.png",
        "C:/Users/anna/x.png",
        "'C:\\\\Users\\\\anna\\\\x.png'",
        "\\\\server\\anna\\x.png",
        "file:///srv/anna/x.png",
        "file:///C:/Users/anna/x.png",
        "~anna/data/x.png",
        "(/home/anna/.cache/x.png)",
    ],
)
def test_only_the_name_of_a_file_stays_whatever_the_path_looks_like(path):
    told = guard.plain_words(ValueError(f"Cannot read {path}: it holds no png/jpeg, see a/b."))
    assert "x.png" in told
    assert not any(word in told for word in ("anna", "maria", "home", "Users", "srv", "server", "ward"))
    assert told.startswith("Cannot read ")
    assert told.endswith(": it holds no png/jpeg, see a/b.")
    bare = path.strip("'()").replace("\\\\", "\\")
    assert guard.plain_words(OSError(13, "Permission denied", bare)) == "Permission denied: x.png"


@pytest.mark.parametrize(
    "words",
    [
        "crp: 3/4 of 12 mg/l", "age and/or sex", "\\n is no number", "a / b / c", "see https://a.example/b/c",
        "60 % / year", "/data", "'x' is no column", "9:30 or 10/12", "ratio 1:2/3",
    ],
)  # fmt: skip
def test_what_is_no_path_stays_as_it_is(words):
    assert guard.plain_words(ValueError(words)) == words


def test_only_the_environment_that_is_handed_over_is_changed(tmp_path):
    said = {"GRADIO_ALLOWED_PATHS": "/", "GRADIO_SHARE": "True", "HF_HUB_OFFLINE": "0"}
    guard.prepare_environment(tmp_path, said)
    assert said["GRADIO_ANALYTICS_ENABLED"] == "False"
    assert said["HF_HUB_OFFLINE"] == "0", "who asked for the hub keeps it"
    assert not {"GRADIO_ALLOWED_PATHS", "GRADIO_SHARE"} & set(said)
    assert said["GRADIO_TEMP_DIR"].startswith(str(tmp_path.resolve()))


@pytest.mark.parametrize(
    ("host", "alone"),
    [
        ("127.0.0.1", True),
        ("127.0.0.2", True),
        ("localhost", True),
        ("::1", True),
        ("0.0.0.0", False),
        ("10.1.2.3", False),
        ("127.0.0.1.rebound.example", False),
        ("", False),
    ],
)
def test_loopback_is_told_from_everything_else(host, alone):
    assert guard.is_loopback(host) is alone
