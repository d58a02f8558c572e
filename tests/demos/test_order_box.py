"""Order and choice: whatever the browser sends becomes an order of all names, a sentence, or nothing."""

import pytest

NAMES = ("image", "table", "text")


@pytest.fixture(scope="module")
def order():
    pytest.importorskip("gradio")
    from mmmed_demo import order

    return order


@pytest.mark.parametrize(
    "came", [None, "image", 7, [], ["text", "text", "<b>", 3, None, "image"], {"text": 1}, [["text"]]]
)
def test_whatever_comes_from_the_browser_becomes_an_order_of_all_names(order, came):
    assert sorted(order.in_order(came, NAMES)) == sorted(NAMES)


def test_a_good_order_is_kept(order):
    assert order.in_order(["text", "image", "table"], NAMES) == ["text", "image", "table"]
    assert order.in_order(["table", "no such"], NAMES) == ["table", "image", "text"]


def test_only_a_place_of_the_report_counts_as_a_choice(order):
    import gradio as gr

    tell = lambda data: order.picked(gr.EventData(None, data), 3)  # noqa: E731
    assert [tell({"sentence": place}) for place in (0, 2)] == [0, 2]
    bad = [{"sentence": place} for place in (3, -1, "1", None, True, 1.0, [0])]
    assert [tell(data) for data in (*bad, None, {}, [])] == [None] * 10


def test_the_templates_hold_no_data_and_the_page_is_told_of_changes(order):
    import gradio as gr

    with gr.Blocks():
        box, said = order.order_box(["${x}", "table"], "order"), order.sentence_list("said", "text")
    assert "{{" not in box.html_template
    assert "${" not in box.html_template
    assert said.html_template == "${value}"
    assert box.value == ["${x}", "table"]
    assert all(callable(event) for event in (box.change, box.input, said.click))
