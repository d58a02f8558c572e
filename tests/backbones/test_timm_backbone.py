import pytest
import torch
from safetensors.torch import save_file

from mmmed.backbones import timm_backbone
from mmmed.backbones.timm_backbone import TimmBackbone, download_timm_weights, load_timm_weights

NAME = "mobilenetv2_050"


@pytest.fixture(scope="module")
def timm(torchvision):
    import timm

    return timm


@pytest.fixture(scope="module")
def stored(timm, tmp_path_factory):
    """Weights of a whole network with three colours and a classifier, as they are published."""
    torch.manual_seed(0)
    network = timm.create_model(NAME).eval()
    path = tmp_path_factory.mktemp("weights") / f"{NAME}.safetensors"
    save_file(network.state_dict(), path)
    return network, path


@pytest.mark.parametrize(
    "name",
    [
        NAME,
        "resnet18",
        "vit_tiny_patch16_224",
        "swin_tiny_patch4_window7_224",
        "mambaout_femto",
        "levit_128s",
    ],
)
def test_networks_of_every_kind_give_a_vector_and_a_grid(name):
    backbone = TimmBackbone(name, channels=1, size=(64, 96)).eval()
    pixels = torch.randn(2, 1, 64, 96)
    with torch.no_grad():
        pooled, grid = backbone.pooled(pixels), backbone.grid(pixels)
    assert pooled.shape == (2, backbone.pooled_width)
    assert grid.shape[::2] == (2, backbone.grid_width)
    assert grid.shape[1] in (24, 6, 2)  # sides divided by 16, 32, 64


def test_the_vector_is_the_mean_over_the_grid_where_the_network_says_so():
    backbone = TimmBackbone("resnet18").eval()
    pixels = torch.randn(2, 1, 64, 64)
    torch.testing.assert_close(backbone.grid(pixels).mean(1), backbone.pooled(pixels), atol=1e-5, rtol=1e-4)


def test_the_places_of_a_grid_keep_their_order():
    """A change in the lower right corner of the picture moves a token of that corner most, in any layout."""
    for name in ("resnet18", "swin_tiny_patch4_window7_224", "vit_tiny_patch16_224"):
        torch.manual_seed(0)
        backbone = TimmBackbone(name, size=(128, 128)).eval()
        pixels = torch.zeros(1, 1, 128, 128)
        changed = pixels.clone()
        changed[..., 100:, 100:] = torch.randn(28, 28)
        with torch.no_grad():
            moved = (backbone.grid(changed) - backbone.grid(pixels)).norm(dim=2)[0]
        side = int(len(moved) ** 0.5)
        place = int(moved.argmax())
        assert place // side >= side // 2, name
        assert place % side >= side // 2, name


def test_stored_weights_give_the_features_of_the_network_they_come_from(stored):
    """For colour pictures exactly; pixels are brought to the mean and scale that timm states."""
    network, path = stored
    backbone = TimmBackbone(NAME, channels=3, weights=path, mean=0.4, scale=0.2).eval()
    raw = torch.rand(2, 3, 64, 64)  # 0 to 1
    mean = torch.tensor(network.pretrained_cfg["mean"]).view(3, 1, 1)
    scale = torch.tensor(network.pretrained_cfg["std"]).view(3, 1, 1)
    expected = network.forward_head(network.forward_features((raw - mean) / scale), pre_logits=True)
    torch.testing.assert_close(backbone.pooled((raw - 0.4) / 0.2), expected, atol=1e-4, rtol=1e-4)


def test_a_grey_picture_counts_as_three_equal_colours(stored):
    network, path = stored
    backbone = TimmBackbone(NAME, channels=1, weights=path, mean=0.4, scale=0.2).eval()
    raw = torch.rand(2, 1, 64, 64)
    mean = sum(network.pretrained_cfg["mean"]) / 3
    scale = sum(network.pretrained_cfg["std"]) / 3
    grey = ((raw - mean) / scale).expand(-1, 3, -1, -1)
    expected = network.forward_head(network.forward_features(grey), pre_logits=True)
    torch.testing.assert_close(backbone.pooled((raw - 0.4) / 0.2), expected, atol=1e-4, rtol=1e-4)


def test_a_checkpoint_of_torch_is_read_without_reviving_objects(stored, tmp_path):
    network, path = stored
    torch.save({"state_dict": network.state_dict(), "epoch": 3}, tmp_path / "weights.pth")
    other = TimmBackbone(NAME, channels=3, weights=tmp_path / "weights.pth").eval()
    pixels = torch.randn(1, 3, 64, 64)
    torch.testing.assert_close(
        other.pooled(pixels), TimmBackbone(NAME, 3, weights=path).eval().pooled(pixels)
    )

    class Foreign:
        def __reduce__(self):
            return (print, ("code ran",))

    torch.save({"weights": Foreign()}, tmp_path / "bad.pth")
    with pytest.raises(Exception, match=r"(?i)weights.only"):
        TimmBackbone(NAME, weights=tmp_path / "bad.pth")


def test_position_tables_are_resized_to_the_pictures(timm, tmp_path):
    torch.manual_seed(0)
    network = timm.create_model("vit_tiny_patch16_224", depth=1)
    save_file(network.state_dict(), tmp_path / "vit.safetensors")
    small = timm.create_model("vit_tiny_patch16_224", depth=1, num_classes=0, in_chans=1, img_size=(64, 64))
    load_timm_weights(small, "vit_tiny_patch16_224", tmp_path / "vit.safetensors")
    assert small.pos_embed.shape[1] == 17
    torch.testing.assert_close(small.pos_embed[:, 0], network.pos_embed[:, 0])


def test_weights_that_do_not_fit_are_refused_by_name(stored, tmp_path):
    network, path = stored
    short = dict(list(network.state_dict().items())[5:])
    save_file(short, tmp_path / "short.safetensors")
    with pytest.raises(
        ValueError, match=r"short.safetensors does not fit .*mobilenetv2_050.*5 tensors are missing"
    ):
        TimmBackbone(NAME, weights=tmp_path / "short.safetensors")
    with pytest.raises(ValueError, match="does not fit"):
        TimmBackbone("resnet18", weights=path)
    with pytest.raises(ValueError, match="no file of weights"):
        TimmBackbone(NAME, weights=tmp_path / "nothing.pth")
    with pytest.raises(ValueError, match="tf_efficientnet_lite0"):
        TimmBackbone(NAME, weights="imagenet-wheel")


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(ValueError, match=r'Unknown timm network .resnet_18.*Did you mean "resnet\d*'):
        TimmBackbone("resnet_18")
    with pytest.raises(
        ValueError, match=r'Unknown timm network .resnet18.a1_in2k.*Did you mean "resnet18.a1_in1k"'
    ):
        TimmBackbone("resnet18.a1_in2k")
    with pytest.raises(ValueError, match="Unknown timm network"):
        TimmBackbone("hf-hub:timm/resnet18")


def test_a_size_that_the_network_cannot_take_is_said_when_it_is_built():
    with pytest.raises(ValueError, match=r"convnext_atto.*28 x 28.*Image\(size"):
        TimmBackbone("convnext_atto", size=(28, 28))
    with pytest.raises(ValueError, match=r"maxvit_pico_rw_256.*28 x 28"):
        TimmBackbone("maxvit_pico_rw_256", size=(28, 28))


def statistics(backbone):
    return [buffer.clone() for name, buffer in backbone.named_buffers() if "running" in name]


def test_random_weights_learn_with_the_statistics_of_the_batch_but_never_of_one_picture():
    backbone = TimmBackbone(NAME, size=(32, 32)).train()
    before = statistics(backbone)
    backbone.pooled(torch.randn(1, 1, 32, 32)).sum().backward()  # the last maps have a single place
    assert all(torch.equal(a, b) for a, b in zip(statistics(backbone), before, strict=True))
    backbone.pooled(torch.randn(4, 1, 32, 32))
    assert not all(torch.equal(a, b) for a, b in zip(statistics(backbone), before, strict=True))


def test_stored_weights_keep_their_statistics_and_so_does_a_copy_of_them(stored):
    _, path = stored
    backbone = TimmBackbone(NAME, weights=path)
    copy = TimmBackbone(NAME)
    copy.load_state_dict(backbone.state_dict())
    pixels = torch.randn(4, 1, 64, 64)
    for network in (backbone, copy):
        before = statistics(network)
        alone = network.train().pooled(pixels[:1])
        torch.testing.assert_close(network.pooled(pixels)[:1], alone, atol=1e-4, rtol=1e-4)
        assert all(torch.equal(a, b) for a, b in zip(statistics(network), before, strict=True))
    torch.testing.assert_close(copy.eval().pooled(pixels), backbone.eval().pooled(pixels))


def test_asking_for_the_statistics_of_the_batch_is_possible(stored):
    backbone = TimmBackbone(NAME, weights=stored[1], freeze_norm=False).train()
    before = statistics(backbone)
    backbone.pooled(torch.randn(4, 1, 64, 64))
    assert not all(torch.equal(a, b) for a, b in zip(statistics(backbone), before, strict=True))


def test_downloading_writes_a_file_that_can_be_loaded(timm, monkeypatch, tmp_path):
    """The network is played by random weights."""
    create, asked = timm.create_model, []

    def offline(name, pretrained=False, **options):
        asked.append((name, pretrained))
        return create(name, pretrained=False, **options)

    monkeypatch.setattr(timm, "create_model", offline)
    path = download_timm_weights(NAME, tmp_path / "new folder")
    assert asked == [(NAME, True)]
    assert path == tmp_path / "new folder" / f"{NAME}.safetensors"
    TimmBackbone(NAME, weights=path)
    assert asked[1:] == [(NAME, False)]


def test_no_constructor_asks_for_published_weights(monkeypatch, timm):
    def refuse(*_, pretrained=False, **__):
        assert not pretrained
        raise RuntimeError("stop here")

    monkeypatch.setattr(timm, "create_model", refuse)
    with pytest.raises(ValueError, match="stop here"):
        timm_backbone.TimmBackbone(NAME)
