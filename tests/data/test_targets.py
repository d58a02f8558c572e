"""Which records have a report."""

from mmmed.data.targets import rows_with_text


def test_only_cells_with_words_in_them_count():
    assert rows_with_text(["No effusion.", None, "", "  \n", float("nan"), 3, "x"]) == [0, 6]
    assert rows_with_text([]) == []
