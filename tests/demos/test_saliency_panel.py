"""How a saliency map is shown, on the page and in a notebook: in words, escaped, with its check."""

import json
from dataclasses import replace

import numpy as np
import pytest
from mmmed_demo.panels.saliency import heat

from mmmed.explain import Saliency
from mmmed.explain.attribution_pictures import Deletion

EVIL = "<script>x</script>"
NOTICE = "Research use only. Not a medical device."
CHECK = Deletion(0.82, 0.11, 0.05, 19, 19, 0.2, "log-odds")
FACTS = {"id": EVIL, "task": EVIL, "level": "1", "method": "occlusion", "value": 0.34, "unit": "log-odds"}


def pictured(shape=(12, 16), count=1, **changes):
    """Raised at the upper left, lowered less at the lower right."""
    values, area = np.zeros(shape), np.zeros(shape, dtype=bool)
    values[..., 1, 1], values[..., -2, -2] = 1.0, -0.5
    area[..., :4, :4] = True
    facts = {**FACTS, "modality": "image", "kind": "volume" if len(shape) == 3 else "image", "total": 0.5}
    facts |= {"explained": 0.5, "faithfulness": CHECK, **changes}
    picture = np.zeros(shape, dtype=np.uint8)
    return Saliency(maps=(values,) * count, pictures=(picture,) * count, marked=(area,) * count, **facts)


def named(kind):
    names = (EVIL, "crp", "age")
    return Saliency(modality=kind, kind=kind, maps=(np.array([0.2, -0.9, 0.0]),), names=names, **FACTS)


EVERY = {
    "picture": pictured(),
    "views": pictured(count=2),
    "volume": pictured((3, 12, 16)),
    "table": named("tabular"),
    "text": named("text"),
}


@pytest.mark.parametrize("found", EVERY.values(), ids=EVERY)
def test_whatever_was_asked_is_shown_escaped_and_with_the_notice(found):
    for shown in (heat(found), found._repr_html_()):
        assert EVIL not in shown
        assert NOTICE in shown
    assert NOTICE in str(found)
    assert json.loads(json.dumps(found.to_dict()))["kind"] == found.kind
    assert found.plot()._repr_png_().startswith(b"\x89PNG")


def test_the_direction_has_a_sign_beside_its_colour_and_a_place_in_words():
    shown = heat(pictured())
    assert shown.count("\u25b2") == shown.count("\u25bc") == 2  # on the map and in the legend
    assert "what raised the answer most lies in the upper left of the picture" in shown
    assert "what lowered the answer most lies in the lower right of the picture" in shown


def test_a_map_that_passed_is_called_checked_and_one_that_did_not_is_not_to_be_read():
    assert (
        "Blurring the marked fifth moves the answer by 0.82 log-odds; a random fifth by 0.11 ± 0.05."
        in heat(pictured())
    )
    shown = heat(pictured(faithfulness=replace(CHECK, beaten=18)))
    assert "Not reliable." in shown
    assert "no more than a random fifth can. Do not read this map." in shown


def test_the_title_says_what_the_picture_is_compared_with():
    """The other panels compare with no picture at all, which may point the other way."""
    shown = heat(pictured())
    assert "(now 34\u00a0%), compared with its blurred self" in shown
    assert "A blurred image still counts as recorded" in shown
    assert "A blurred volume" in heat(EVERY["volume"])
    assert "blurred" not in heat(EVERY["table"])


def test_views_and_slices_are_named():
    assert "View 2 of 2" in heat(EVERY["views"])
    assert "Slice 0 (of 0 to 2)" in heat(EVERY["volume"])


def test_columns_come_by_strength_and_words_stay_in_place():
    shown = heat(named("tabular"))
    assert "<b>crp</b> lowered the probability of" in shown
    assert shown.index("crp") < shown.index("age")
    words = heat(named("text"))
    line = words[words.index("mm-heat-words") :]
    assert "mm-heat-down3" in line
    assert line.index("script") < line.index("crp") < line.index("age")


def test_nothing_is_said_where_nothing_moved_the_answer():
    flat = replace(pictured(), maps=(np.zeros((12, 16)),))
    assert "Nothing in the image moved the probability of" in heat(flat)


def test_the_overlay_is_orange_where_raised_blue_where_lowered_and_the_picture_elsewhere():
    drawn = np.asarray(pictured().overlay()).astype(int)
    times = drawn.shape[0] // 12
    raised, lowered = drawn[int(1.5 * times), int(1.5 * times)], drawn[-int(1.5 * times), -int(1.5 * times)]
    assert raised[0] > raised[2]
    assert lowered[2] > lowered[0]
    assert not drawn[6 * times, 8 * times].any()
    with pytest.raises(ValueError, match="no picture"):
        named("text").overlay()
