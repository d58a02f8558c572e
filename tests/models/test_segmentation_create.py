"""From names and sizes to a network: what fits is made, and made again; the rest is refused."""

import json

import pytest
import torch
from torch import nn

from mmmed.models.segmentation_create import check_pictures, create_network
from mmmed.types import Image, Number, Schema, Tabular, Tokens, Volume

SCHEMA = Schema(
    {
        "image": Image("picture", size=(32, 48)),
        "large": Image("large", size=(200, 224), channels=3),
        "flair": Volume("flair", size=(8, 32, 32)),
        "pre": Volume("pre", size=(8, 32, 32)),
        "thick": Volume("thick", size=(4, 32, 32)),
        "table": Tabular((Number("age"),)),
    }
)
DIM = 8


def create(*names, **options):
    return create_network(SCHEMA, names, query=nn.Identity(), dim=DIM, width=8, **options)


def drawn(network, sizes, phrases=3):
    values = {
        name: torch.randn(2, *size, generator=torch.Generator().manual_seed(0))
        for name, size in sizes.items()
    }
    words = Tokens(
        torch.randn(phrases, 2, DIM, generator=torch.Generator().manual_seed(1)),
        torch.ones(phrases, 2).bool(),
    )
    seen = network.see(values, {name: torch.arange(2) for name in sizes}, 2)
    return network.draw(seen, words, torch.tensor([0, 1, 1]))


@pytest.mark.parametrize(
    ("names", "options", "size", "grid"),
    [
        (("image",), {}, (1, 32, 48), (16, 24)),
        (("image",), {"fusion": "svla", "weak": True}, (1, 32, 48), (16, 24)),
        (("image",), {"pyramid": ("small", {"widths": (4, 6)})}, (1, 32, 48), (16, 24)),
        (("large",), {}, (3, 200, 224), (50, 56)),
        (("flair",), {"by_slice": True}, (1, 32, 32), (16, 16)),
        (("flair", "pre"), {}, (1, 8, 32, 32), (8, 16, 16)),
        (("image",), {"pyramid": "timm:resnet10t"}, (1, 32, 48), (16, 24)),
        (("flair",), {"pyramid": "timm:resnet10t", "by_slice": True}, (1, 32, 32), (16, 16)),
    ],
)
def test_masks_are_drawn_on_half_of_the_grid_and_on_a_quarter_of_a_large_one(names, options, size, grid):
    network, _ = create(*names, **options)
    drawing = drawn(network, dict.fromkeys(names, size))
    assert drawing.logits.shape == (3, 1, *grid)
    assert drawing.logits.isfinite().all()
    assert network.modalities == names
    assert network.normalise == (names[0] != "image" and names[0] != "large")


def test_a_large_picture_and_a_network_of_two_scales_go_together(torchvision):
    network, _ = create("large", pyramid="timm:vit_tiny_patch16_224")
    assert network.finest == 0
    drawing = drawn(network, {"large": (3, 200, 224)})
    assert drawing.logits.shape[2:] == (24, 28)


@pytest.mark.parametrize(
    "options", [{}, {"fusion": ("film", {}), "weak": True}, {"pyramid": "timm:resnet10t"}]
)
def test_its_description_makes_the_same_network_again(options):
    network, config = create("image", seed=3, **options)
    told = json.loads(json.dumps(config))
    assert told == config
    again, _ = create_network(SCHEMA, told.pop("modalities"), query=nn.Identity(), **told)
    own, other = network.state_dict(), again.state_dict()
    assert own.keys() == other.keys()
    assert all(torch.equal(tensor, other[name]) for name, tensor in own.items())


def test_the_seed_decides_the_weights_and_no_stream_is_moved():
    torch.manual_seed(7)
    before = torch.get_rng_state()
    one, two = create("image", seed=1)[0], create("image", seed=2)[0]
    assert torch.equal(torch.get_rng_state(), before)
    assert not torch.equal(one.decoder.fine.weight, two.decoder.fine.weight)


def test_what_can_be_drawn_on():
    assert check_pictures(SCHEMA, ["image"], False) is Image
    assert check_pictures(SCHEMA, ["flair", "pre"], True) is Volume


@pytest.mark.parametrize(
    ("names", "options", "message"),
    [
        ((), {}, "name the image"),
        (("imag",), {}, 'Did you mean "image"'),
        (("image", "flair"), {}, "one Image, or Volumes only"),
        (("image", "table"), {}, "one Image, or Volumes only"),
        (("flair", "thick"), {}, "one size"),
        (("image",), {"by_slice": True}, "has no slices"),
        (("image",), {"pyramid": "resnet"}, '"small" or "timm:NAME"'),
        (("image",), {"pyramid": "timm:"}, '"small" or "timm:NAME"'),
        (("image",), {"pyramid": 3}, "name or"),
        (("image",), {"pyramid": ("small", 3)}, "name or"),
        (("flair",), {"pyramid": "timm:resnet10t"}, "by_slice=True"),
        (("flair", "pre"), {"pyramid": "timm:resnet10t", "by_slice": True}, "Use the small pyramid"),
        (("image",), {"fusion": "flim"}, "film"),
    ],
)
def test_parts_that_do_not_fit_are_refused(names, options, message):
    with pytest.raises(ValueError, match=message):
        create(*names, **options)


@pytest.mark.parametrize("width", [0, -1, 2.5])
def test_the_width_is_a_whole_number(width):
    with pytest.raises(ValueError, match="width"):
        create_network(SCHEMA, ["image"], query=nn.Identity(), width=width)


def test_two_images_cannot_be_drawn_on_at_once():
    two = Schema({"front": Image("front", size=(32, 32)), "side": Image("side", size=(32, 32))})
    with pytest.raises(ValueError, match="one Image"):
        create_network(two, ["front", "side"], query=nn.Identity(), dim=DIM)
