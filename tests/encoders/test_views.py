import pytest
import torch

from mmmed.encoders.views import check_views, encode_views


def two_tokens(pictures):
    """The mean of a picture and its double: [pictures 2 1]"""
    mean = pictures.flatten(1).mean(1)
    return torch.stack([mean, 2 * mean], dim=1).unsqueeze(2)


def test_views_are_laid_out_side_by_side_by_hand():
    pixels = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])[..., None, None, None].expand(2, 3, 1, 4, 4)
    tokens = encode_views(pixels, torch.tensor([[True, False, True], [False, True, False]]), two_tokens)
    assert tokens.values[..., 0].tolist() == [[1, 2, 0, 0, 3, 6], [0, 0, 5, 10, 0, 0]]
    assert tokens.mask.tolist() == [
        [True, True, False, False, True, True],
        [False, False, True, True, False, False],
    ]


def test_all_views_there_is_the_same_as_one_by_one():
    pixels = torch.randn(3, 2, 1, 4, 4)
    tokens = encode_views(pixels, torch.ones(3, 2, dtype=torch.bool), two_tokens)
    expected = torch.cat([two_tokens(pixels[:, view]) for view in range(2)], dim=1)
    torch.testing.assert_close(tokens.values, expected)
    assert tokens.mask.all()


def test_a_view_that_is_not_there_is_never_encoded():
    pixels = torch.full((2, 2, 1, 4, 4), torch.nan)
    pixels[:, 0] = 1.0
    seen = []
    encode_views(pixels, torch.tensor([[True, False]] * 2), lambda p: (seen.append(p), two_tokens(p))[1])
    assert [tuple(p.shape) for p in seen] == [(2, 1, 4, 4)]


def test_wrong_shapes_are_named():
    pixels, views = torch.zeros(2, 3, 1, 16, 16), torch.ones(2, 3, dtype=torch.bool)
    check_views(pixels, views, 1)
    with pytest.raises(ValueError, match=r"pixels should have shape \[n views channels=3 .*Image\(channels"):
        check_views(pixels, views, 3)
    with pytest.raises(ValueError, match=r"views should have shape \[n=2 views=3\], got \[2, 2\]"):
        check_views(pixels, views[:, :2], 1)
    views[1] = False
    with pytest.raises(ValueError, match="Leave rows without a picture out"):
        check_views(pixels, views, 1)
