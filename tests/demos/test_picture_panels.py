"""Pictures on the page are made in one place, and a panel knows nothing of the page around it."""

import base64
import io
import re
from pathlib import Path

import numpy as np
import pytest
from mmmed_demo import preview
from mmmed_demo.panels import picture
from PIL import Image

FOLDER = Path(picture.__file__).parent


def test_one_file_makes_the_pictures_of_the_whole_page():
    texts = {file.name: file.read_text(encoding="utf-8") for file in FOLDER.parent.rglob("*.py")}
    assert [name for name, text in texts.items() if "b64encode" in text] == ["picture.py"]
    assert preview.data_uri is picture.data_uri
    assert preview.grey is picture.grey


def test_a_panel_imports_nothing_of_the_page_and_nothing_private_of_another_panel():
    for file in FOLDER.glob("*.py"):
        for line in re.findall(r"^\s*from \..*", file.read_text(encoding="utf-8"), re.MULTILINE):
            assert not line.strip().startswith("from .."), (file.name, line)
            assert not re.search(r"import .*\b_", line), (file.name, line)


@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 3), (5, 7, 4)])
def test_pixels_arrive_as_they_were_sent(shape):
    pixels = (np.arange(np.prod(shape)) % 251).astype(np.uint8).reshape(shape)
    for sent in (pixels, pixels[::-1][::-1], Image.fromarray(pixels)):
        head, _, data = picture.data_uri(sent).partition(",")
        assert head == "data:image/png;base64"
        np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(base64.b64decode(data)))), pixels)


def test_an_area_is_outlined_where_set_meets_not_set():
    area = np.zeros((4, 5), bool)
    area[1:3, 2:4] = True
    assert picture.edges(area) == "M2 1h2M2 3h2M2 1v2M4 1v2"
    assert picture.runs(area) == "M2 1h2v1h-2zM2 2h2v1h-2z"
    assert picture.edges(np.zeros((4, 5), bool)) == ""


def test_a_large_picture_is_made_small():
    assert max(picture.grey(np.zeros((1, 900, 700))).size) == 360
    assert picture.grey(np.ones((3, 4, 5))).mode == "RGB"
    assert picture.step_of((481, 20)) == 2
    assert picture.step_of((480, 20)) == 1
