"""Where only the word tells what is meant, the word is learned, and each picture is read by its own."""

import torch
from modality_words import PICTURES, THINGS, WordNet, learn, make_discs, mean_dice, truth

from mmmed.segmentation.class_table import hashed_rows


def fresh(seed=9):
    return torch.Generator().manual_seed(seed)


def test_the_pictures_hold_no_cue_of_the_acquisition():
    # Bright and dark discs are alike in number, size and place, so no still picture favours a word.
    pixels, masks = make_discs(400, fresh())
    sizes = masks.float().flatten(2).sum(2).mean(0)
    assert (sizes[0] - sizes[1]).abs() < 0.06 * sizes.mean()
    assert pixels.mean().abs() < 0.01
    assert not torch.equal(truth(masks, *torch.tensor([0, 0]).expand(400, 2).T), masks[:, 1])


def test_the_right_word_finds_the_organ_and_the_wrong_one_the_other_disc():
    torch.manual_seed(0)
    net = learn(WordNet(), 120, torch.Generator().manual_seed(0))
    right = mean_dice(net, lambda picture: picture, fresh())
    wrong = mean_dice(net, lambda picture: 1 - picture, fresh())
    unsaid = mean_dice(net, lambda picture: picture * 0 - 1, fresh())
    assert right >= 0.9
    assert wrong <= 0.1
    assert unsaid <= 0.6
    # Learned from batches of one acquisition each, answered in any mixture.
    pixels, picture = make_discs(6, fresh())[0], torch.tensor([0, 1, -1, 1, 0, 0])
    thing = torch.zeros(6, dtype=torch.long)
    together = net(pixels, thing, picture)
    for i in range(6):
        one = slice(i, i + 1)
        torch.testing.assert_close(
            net(pixels[one], thing[one], picture[one]), together[one], atol=1e-4, rtol=1e-4
        )


def test_fixed_rows_made_of_letters_tell_two_things_in_two_acquisitions():
    torch.manual_seed(0)
    net = WordNet(rows=hashed_rows(THINGS, PICTURES))
    learn(net, 160, torch.Generator().manual_seed(0), things=2)
    assert mean_dice(net, lambda picture: picture, fresh(), things=2) >= 0.9
