"""A path in a table leads to a file of the cohort's folder, or to an error that says where and what to do."""

import os

import pytest

from mmmed.checks import MissingFile, UnreadableFile, UnsafePath
from mmmed.data.paths import reading, resolve

WHERE = 'record "a1", column "image"'


@pytest.fixture
def folder(tmp_path):
    inside = tmp_path / "cohort"
    (inside / "images").mkdir(parents=True)
    (inside / "images" / "a.png").write_bytes(b"picture")
    (tmp_path / "secret.txt").write_text("secret")
    return inside


def message(kind, path, folder):
    with pytest.raises(kind) as error:
        resolve(path, folder, WHERE)
    assert str(error.value).startswith(WHERE)
    return str(error.value)


@pytest.mark.parametrize(
    "path", ["images/a.png", "./images/a.png", "images/../images/a.png", "images//a.png"]
)
def test_a_relative_path_inside_is_found(folder, path):
    assert resolve(path, folder).read_bytes() == b"picture"


def test_a_path_object_and_a_text_folder_are_fine(folder):
    assert resolve((folder / "images" / "a.png").relative_to(folder), str(folder)).name == "a.png"


def test_without_a_folder_paths_start_at_the_current_directory(folder, monkeypatch):
    monkeypatch.chdir(folder)
    assert resolve("images/a.png", None).read_bytes() == b"picture"


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "C:\\data\\a.png", "C:/data/a.png", "\\\\server\\share\\a.png"]
)
def test_an_absolute_path_is_refused_on_every_system(folder, path):
    text = message(UnsafePath, path, folder)
    assert "absolute" in text
    assert "relative to the folder of the cohort" in text


def test_an_absolute_path_is_refused_even_if_it_leads_inside(folder):
    assert "absolute" in message(UnsafePath, str(folder / "images" / "a.png"), folder)


@pytest.mark.parametrize("path", ["../secret.txt", "images/../../secret.txt", "..", "../cohort2/x.png"])
def test_two_dots_that_leave_the_folder_are_refused(folder, path):
    text = message(UnsafePath, path, folder)
    assert "leads out of the folder" in text
    assert "Put the file inside" in text


def test_a_folder_whose_name_only_begins_the_same_is_outside(folder):
    (folder.parent / "cohort-other").mkdir()
    (folder.parent / "cohort-other" / "b.png").write_bytes(b"x")
    message(UnsafePath, "../cohort-other/b.png", folder)


def test_the_answer_does_not_tell_whether_an_outside_file_exists(folder):
    there = message(UnsafePath, "../secret.txt", folder)
    absent = message(UnsafePath, "../nothing.txt", folder)
    assert there.replace("secret", "nothing") == absent


def test_a_symbolic_link_that_leads_out_is_refused(folder):
    (folder / "link.txt").symlink_to(folder.parent / "secret.txt")
    (folder / "way").symlink_to(folder.parent)
    assert "symbolic link" in message(UnsafePath, "link.txt", folder)
    assert "symbolic link" in message(UnsafePath, "way/secret.txt", folder)


def test_a_symbolic_link_that_stays_inside_is_fine(folder):
    (folder / "link.png").symlink_to(folder / "images" / "a.png")
    assert resolve("link.png", folder).read_bytes() == b"picture"


def test_the_folder_itself_may_be_a_symbolic_link(folder):
    (folder.parent / "alias").symlink_to(folder)
    assert resolve("images/a.png", folder.parent / "alias").read_bytes() == b"picture"


def test_a_loop_of_links_is_an_error_and_not_a_hang(folder):
    (folder / "one").symlink_to(folder / "two")
    (folder / "two").symlink_to(folder / "one")
    with pytest.raises((MissingFile, UnreadableFile), match="record"):
        resolve("one", folder, WHERE)


@pytest.mark.parametrize("path", ["images/a.png\0.txt", "a\ud800.png"])
def test_a_name_no_file_can_have_is_refused(folder, path):
    assert "no file name can" in message(UnsafePath, path, folder)


def test_a_file_that_is_not_there_says_where_it_was_sought_and_what_to_do(folder):
    text = message(MissingFile, "images/b.png", folder)
    assert "images/b.png" in text
    assert str(folder) in text
    assert "leave the cell empty" in text
    message(MissingFile, "images/a.png/deeper.png", folder)


@pytest.mark.skipif(os.sep != "/", reason="backslashes separate folders on this system")
def test_backslashes_of_another_system_are_pointed_out(folder):
    assert "forward slashes" in message(MissingFile, "images\\a.png", folder)


def test_an_address_is_not_fetched(folder):
    assert "not fetched" in message(MissingFile, "https://example.org/a.png", folder)


def test_a_directory_is_no_file(folder):
    assert "is a directory. Name one file" in message(UnreadableFile, "images", folder)
    assert "is a directory" in message(UnreadableFile, ".", folder)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_is_refused_instead_of_waited_for(folder):
    os.mkfifo(folder / "pipe.png")
    assert "no regular file" in message(UnreadableFile, "pipe.png", folder)


def test_a_name_that_is_too_long_is_an_error_of_ours(folder):
    with pytest.raises((MissingFile, UnreadableFile), match="column"):
        resolve("x" * 5000 + ".png", folder, WHERE)


@pytest.mark.parametrize("path", ["", "   "])
def test_an_empty_path_is_missing(folder, path):
    assert "empty" in message(MissingFile, path, folder)


@pytest.mark.parametrize("path", [3, None, b"images/a.png"])
def test_what_is_no_path_is_named(folder, path):
    assert "should be a path as text" in message(UnsafePath, path, folder)


def test_whatever_a_decoder_raises_becomes_one_error_that_names_the_file():
    with (
        pytest.raises(UnreadableFile, match=r"a\.png cannot be read.*KeyError.*Copy it again") as error,
        reading("a.png"),
    ):
        raise KeyError("x\n" * 1000)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 500
    assert isinstance(error.value.__cause__, KeyError)


def test_a_package_that_is_not_installed_is_no_fault_of_the_file():
    with pytest.raises(ImportError), reading("a.png"):
        raise ImportError("pydicom")
