"""The decoder: phrases cost and mean the same alone and together; weak presence is the highest pixel."""

from dataclasses import fields

import pytest
import torch

from mmmed.catalogue import find
from mmmed.segmentation.mask_decoder import MaskDecoder
from mmmed.segmentation.matching import RegionMatch
from mmmed.types import Tokens

WIDTH, DIM = 6, 8


def decoder_of(space=2, fusion="film", **options):
    torch.manual_seed(0)
    made = find(fusion, "word-pixel fusion").load()
    decoder = MaskDecoder(WIDTH, DIM, [made(WIDTH, DIM, space=space) for _ in range(2)], space, **options)
    with torch.no_grad():
        for parameter in decoder.parameters():  # so that nothing that matters is still zero
            parameter += 0.1 * torch.randn(parameter.shape)
    return decoder


def maps_of(count=3, space=2, seed=0, grad=False):
    generator = torch.Generator().manual_seed(seed)
    return [
        torch.randn(count, WIDTH, *(side,) * space, generator=generator).requires_grad_(grad)
        for side in (9, 5, 3)
    ]


def words_of(count, length=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    mask = torch.arange(length) < torch.randint(1, length + 1, (count, 1), generator=generator)
    return Tokens(torch.randn(count, length, DIM, generator=generator), mask)


def tensors_of(drawing):
    for field in fields(drawing):
        found = getattr(drawing, field.name)
        yield from found if isinstance(found, tuple) else (found,)


@pytest.mark.parametrize("weak", [False, True])
@pytest.mark.parametrize("space", [2, 3])
@pytest.mark.parametrize("fusion", ["film", "svla"])
def test_phrases_about_one_picture_are_answered_as_each_alone(space, fusion, weak):
    decoder = decoder_of(space, fusion, weak=weak)
    maps, words, which = maps_of(space=space), words_of(5), torch.tensor([2, 0, 0, 2, 2])
    together = decoder(decoder.see(maps), words, which)
    for phrase, row in enumerate(which.tolist()):
        one = torch.tensor([phrase])
        alone = decoder(decoder.see([map_[row : row + 1] for map_ in maps]), words[one], torch.tensor([0]))
        for single, several in zip(tensors_of(alone), tensors_of(together), strict=True):
            torch.testing.assert_close(single, several[one], atol=2e-4, rtol=1e-3)
    assert together.logits.shape == (5, 1, *(9,) * space)
    assert [one.shape[2:] for one in together.coarse] == [(side,) * space for side in (5, 3)]


def test_coarse_drawings_are_there_to_teach_and_change_nothing():
    decoder, words, which = decoder_of(), words_of(2), torch.tensor([0, 2])
    learning = decoder(decoder.see(maps_of()), words, which)
    decoder.eval()
    asked = decoder(decoder.see(maps_of()), words, which)
    assert asked.coarse == ()
    torch.testing.assert_close(asked.logits, learning.logits)
    torch.testing.assert_close(asked.presence, learning.presence)


def test_words_and_place_matter():
    decoder = decoder_of()
    seen, which = decoder.see(maps_of()), torch.tensor([0, 0])
    drawing = decoder(seen, words_of(2), which)
    assert (drawing.logits[0] - drawing.logits[1]).abs().max() > 1e-3
    flat = decoder.see([torch.ones_like(map_) for map_ in maps_of()])
    assert decoder(flat, words_of(2), which).logits.flatten(2).std(2).min() > 1e-4, "no place is like another"


def test_weak_presence_is_the_highest_pixel_and_nothing_else():
    decoder = decoder_of(weak=True)
    drawing = decoder(decoder.see(maps_of()), words_of(4), torch.tensor([0, 1, 2, 1]))
    assert torch.equal(drawing.presence, drawing.logits.flatten(1).amax(1))
    assert (drawing.match == 0).all()
    drawing.presence.sum().backward()
    assert decoder.offset.grad.item() == 4
    assert decoder.enter.weight.grad.abs().max() > 0, "presence teaches the mask"


def test_presence_teaches_words_and_maps_but_not_through_the_shape_that_is_judged(monkeypatch):
    """The thing drawn is looked at again as it is: a mask does not move to be judged better."""
    given = {}
    regions = RegionMatch.regions

    def looks(self, summary, masks):
        given["inside"] = masks
        return regions(self, summary, masks)

    monkeypatch.setattr(RegionMatch, "regions", looks)
    decoder, maps = decoder_of(), maps_of(grad=True)
    drawing = decoder(decoder.see(maps), words_of(3), torch.tensor([0, 1, 2]))
    assert not given["inside"].requires_grad
    drawing.match.sum().backward()
    drawer = (decoder.head, decoder.enter, decoder.fine, decoder.coarse, decoder.fusions, decoder.project)
    assert all(p.grad is None or not p.grad.any() for part in drawer for p in part.parameters())
    assert all(map_.grad.abs().max() > 0 for map_ in maps[1:])
    assert decoder.match.word.weight.grad.abs().max() > 0


def test_the_second_look_sees_what_was_drawn():
    """With the logits of the head set by hand: above one half is inside; of faint things, the nearest."""
    decoder = decoder_of()
    seen, words, which = decoder.see(maps_of(1)), words_of(1), torch.tensor([0])
    logits = torch.full((1, 1, 9, 9), -8.0)
    logits[0, 0, 2:5, 2:5] = 3.0
    logits[0, 0, 6, 6] = 0.5
    sure = decoder._look_again(seen, words, which, logits)
    regions = decoder.match.regions(seen.summary, decoder.shares((logits > 0).float(), seen))
    torch.testing.assert_close(sure, decoder.match.score(regions, words).squeeze(1))
    faint = decoder._look_again(seen, words, which, logits.clamp(max=0.5) - 5)
    torch.testing.assert_close(faint, sure)


def test_everything_that_can_learn_does():
    decoder = decoder_of()
    drawing = decoder(decoder.see(maps_of()), words_of(4), torch.tensor([0, 1, 2, 1]))
    (
        drawing.logits.square().sum() + drawing.presence.sum() + sum(one.sum() for one in drawing.coarse)
    ).backward()
    assert [name for name, p in decoder.named_parameters() if p.grad is None or not p.grad.any()] == []


@pytest.mark.parametrize("weak", [False, True])
def test_no_phrases_are_answered_with_nothing(weak):
    decoder = decoder_of(weak=weak)
    drawing = decoder(decoder.see(maps_of()), words_of(0), torch.zeros(0, dtype=torch.long))
    assert drawing.logits.shape == (0, 1, 9, 9)
    assert drawing.presence.shape == (0,)
