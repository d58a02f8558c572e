"""Questions from a table: rows, words that are not said, sentences, and words made of letters."""

import pytest
import torch
from torch.nn.functional import cosine_similarity, layer_norm

from mmmed.segmentation.class_table import UNSAID, ClassTable, hashed_rows, sentence, text_rows

ORGANS, PICTURES = ("liver", "left kidney", "right kidney"), ("CT", "flair MR")
FIRST = [-2.0, 0.0, -2.0, 0.0, -2.0, 2.0, 0.0, 0.0]  # of "liver ct", written down once


def pairs():
    return torch.tensor([0, 2, UNSAID, 1]), torch.tensor([1, UNSAID, 0, 1])


def encode(sentences):
    """A text tower that counts letters."""
    return torch.tensor([[float(text.count(letter)) for letter in "abcdefghikl"] for text in sentences])


def tables():
    rows = hashed_rows(ORGANS, PICTURES, 16)
    return [
        ClassTable(ORGANS, PICTURES, dim=8),
        ClassTable(ORGANS, PICTURES, dim=8, rows=rows),
        ClassTable(ORGANS, PICTURES, dim=8, rows=text_rows(ORGANS, PICTURES, encode)),
    ]


each_table = pytest.mark.parametrize("kind", range(3), ids=("learned", "hashed", "text"))


def test_learned_rows_are_one_token_for_each_word():
    table, (category, acquisition) = tables()[0], pairs()
    tokens = table(category, acquisition)
    assert tokens.values.shape == (4, 2, 8)
    assert tokens.mask.all()
    for i, (organ, picture) in enumerate(zip(category.tolist(), acquisition.tolist(), strict=True)):
        # what was not said is the row after the last name
        assert torch.equal(tokens.values[i, 0], table.category[organ if organ >= 0 else 3])
        assert torch.equal(tokens.values[i, 1], table.acquisition[picture if picture >= 0 else 2])


def test_fixed_rows_are_one_token_of_the_pair():
    rows, (category, acquisition) = torch.randn(3, 4, 6), pairs()
    table = ClassTable(ORGANS, PICTURES, dim=8, rows=rows)
    tokens = table(category, acquisition)
    wanted = torch.stack([rows[1, 0], rows[2, 2], rows[0, 3], rows[1, 1]])
    wanted = (layer_norm(wanted, (6,)) @ table.linear.weight.T + table.linear.bias).clamp(min=0)
    torch.testing.assert_close(tokens.values, wanted[:, None])


@each_table
def test_a_phrase_is_asked_alone_whatever_the_others_are_pictures_of(kind):
    table, (category, acquisition) = tables()[kind], pairs()
    together = table(category, acquisition).values
    for i in range(4):
        one = slice(i, i + 1)
        torch.testing.assert_close(table(category[one], acquisition[one]).values, together[one])


@each_table
def test_every_word_and_its_absence_changes_the_question(kind):
    table = tables()[kind]
    asked = torch.cartesian_prod(torch.arange(-1, 3), torch.arange(-1, 2))
    answers = table(asked[:, 0], asked[:, 1]).values.flatten(1)
    assert len(answers.detach().unique(dim=0)) == len(asked) == 12


@each_table
def test_the_acquisition_may_be_left_out_altogether(kind):
    table, (category, _) = tables()[kind], pairs()
    unsaid = table(category, torch.full((4,), UNSAID)).values
    assert torch.equal(table(category).values, unsaid)


def test_without_acquisitions_there_is_one_token_and_no_idle_parameter():
    table = ClassTable(ORGANS, dim=8)
    assert table(pairs()[0]).values.shape == (4, 1, 8)
    assert [name for name, _ in table.named_parameters()] == ["category"]


def test_fixed_rows_are_saved_and_not_learned():
    table = tables()[1]
    assert "rows" in table.state_dict()
    assert {name for name, _ in table.named_parameters()} == {"linear.weight", "linear.bias"}


def test_the_length_of_a_text_towers_vectors_does_not_matter():
    rows, (category, acquisition) = text_rows(ORGANS, PICTURES, encode), pairs()
    small, large = (ClassTable(ORGANS, PICTURES, dim=8, rows=rows * scale) for scale in (1, 100))
    large.linear.load_state_dict(small.linear.state_dict())
    torch.testing.assert_close(
        small(category, acquisition).values, large(category, acquisition).values, atol=1e-4, rtol=1e-3
    )


def test_sentences_leave_out_what_is_not_said():
    read = []
    rows = text_rows(["liver"], ["CT"], lambda texts: read.extend(texts) or torch.zeros(len(texts), 5))
    assert read == [
        "there is a liver in this CT",
        "there is something in this CT",
        "there is a liver in this picture",
        "there is something in this picture",
    ]
    assert rows.shape == (2, 2, 5)
    assert read[0] == sentence("liver", "CT")


def test_words_made_of_letters_are_the_same_everywhere_and_near_where_they_share_words():
    rows = hashed_rows(ORGANS, PICTURES, 256)
    assert rows[0, 0, :8].tolist() == hashed_rows(["liver"], ["CT"], 8)[0, 0].tolist() == FIRST
    left, right, liver = rows[2, 1], rows[2, 2], rows[2, 0]
    assert cosine_similarity(left, right, dim=0) > 0.3
    assert cosine_similarity(left, liver, dim=0).abs() < 0.25


def test_names_are_found_in_any_case_and_an_unknown_one_is_answered_with_the_nearest():
    table = tables()[0]
    assert table.find_categories(["Liver", "", None, " left  kidney"]).tolist() == [0, -1, -1, 1]
    assert table.find_acquisitions(["ct", "FLAIR MR", ""]).tolist() == [0, 1, -1]
    with pytest.raises(ValueError, match=r"Unknown category 'livre'. Did you mean \"liver\"\? Known: liver"):
        table.find_categories(["livre"])
    with pytest.raises(ValueError, match="Unknown acquisition 'ultrasound'"):
        table.find_acquisitions(["ultrasound"])


def test_tables_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="categories should be different names"):
        ClassTable(["liver", "Liver"])
    with pytest.raises(ValueError, match=r"rows should have shape .acquisitions=3 categories=4 width., got"):
        ClassTable(ORGANS, PICTURES, rows=torch.zeros(2, 3, 5))
    with pytest.raises(ValueError, match=r"from -1 \(not said\) to 2, got -2 to 0. Known: liver"):
        tables()[0](torch.tensor([0, -2]))
    with pytest.raises(ValueError, match="acquisition should have shape"):
        tables()[0](torch.tensor([0, 1]), torch.tensor([0]))


def test_no_phrase_is_no_question():
    nothing = torch.zeros(0, dtype=torch.long)
    assert all(len(table(nothing, nothing).values) == 0 for table in tables())
