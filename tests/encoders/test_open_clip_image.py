"""Towers of open_clip: what comes out is what open_clip itself gives for the same pixels."""

import builtins
import json
from functools import partial

import pytest
import torch
from safetensors.torch import save_file

from mmmed import create_model
from mmmed.backbones.torchvision_guard import torchvision_state
from mmmed.encoders.grids import token_grid
from mmmed.encoders.open_clip_image import OpenClipImageEncoder
from mmmed.types import Binary, Image, Schema

torchvision_state()
open_clip = pytest.importorskip("open_clip")

VIT = {"image_size": 32, "patch_size": 8, "width": 16, "head_width": 8, "layers": 3}
CNN = {"timm_model_name": "mobilenetv2_035", "timm_pool": "avg", "timm_proj": "linear", "image_size": 64}
TIMM_VIT = {
    "timm_model_name": "test_vit",
    "timm_model_pretrained": False,
    "timm_pool": "",
    "timm_proj": "linear",
    "image_size": 160,
}
# vision_cfg, side of the pictures, the block that is read unless another is asked for
TOWERS = {"vit": (VIT, 32, -2), "cnn": (CNN, 64, -1), "timm vit": (TIMM_VIT, 160, -2)}
LOOK = {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.25]}
SCHEMA = partial(Image, "scan", mean=0.5, scale=0.25)


def write(folder, vision, config=None):
    """A model of open_clip as it lies on the hub, with weights of its own."""
    folder.mkdir()
    text = {"context_length": 8, "vocab_size": 32, "width": 16, "heads": 2, "layers": 1}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = open_clip.CLIP(12, {**vision, "timm_model_pretrained": False}, text).eval()
        for name, buffer in model.visual.named_buffers():
            if name.endswith("running_var"):
                buffer.uniform_(0.5, 1.5)
    told = {"model_cfg": {"embed_dim": 12, "vision_cfg": vision, "text_cfg": text}, "preprocess_cfg": LOOK}
    (folder / "open_clip_config.json").write_text(json.dumps(config or told), encoding="utf-8")
    state = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    save_file(state, folder / "open_clip_model.safetensors")
    return f"local-dir:{folder}"


@pytest.fixture(scope="module", params=TOWERS)
def stored(request, tmp_path_factory):
    """-> name, side of its pictures, usual block, and the same model opened by open_clip."""
    vision, side, usual = TOWERS[request.param]
    name = write(tmp_path_factory.mktemp("clip") / "model", vision)
    return name, side, usual, open_clip.create_model_and_transforms(name)[0].eval()


@pytest.fixture(scope="module")
def vit(tmp_path_factory):
    return write(tmp_path_factory.mktemp("clip") / "model", VIT)


def pictures(side, channels=3, count=2):
    """Values of 0 to 1, and the same as the collator standardises them, as one view."""
    values = torch.rand(count, channels, side, side, generator=torch.Generator().manual_seed(1))
    return values, ((values - 0.5) / 0.25).unsqueeze(1), torch.ones(count, 1, dtype=torch.bool)


def expected_pixels(values):
    mean, scale = (torch.tensor(LOOK[key]).view(3, 1, 1) for key in ("mean", "std"))
    return (values.expand(-1, 3, -1, -1) - mean) / scale


def open_it(name, side, channels=3, **options):
    schema = SCHEMA(size=(side, side), channels=channels)
    return OpenClipImageEncoder.from_schema(schema, dim=8, name=name, **options).eval()


@pytest.mark.parametrize("channels", [1, 3])
def test_the_embedding_is_that_of_open_clip_itself(stored, channels):
    name, side, _, model = stored
    values, pixels, views = pictures(side, channels)
    encoder = open_it(name, side, channels)
    with torch.no_grad():
        embedding = model.encode_image(expected_pixels(values))
        torch.testing.assert_close(encoder._features(pixels[:, 0])[:, 0], embedding, atol=1e-4, rtol=1e-3)
        by_hand = encoder.project(encoder.norm(embedding))
        torch.testing.assert_close(encoder(pixels, views).values[:, 0], by_hand, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("block", [None, -1, 1])
def test_the_grid_is_the_map_that_open_clip_gives_for_the_block(stored, block):
    name, side, usual, model = stored
    values, pixels, views = pictures(side)
    encoder = open_it(name, side, grid=True, block=block)
    with torch.no_grad():
        maps = model.visual.forward_intermediates(
            expected_pixels(values), indices=[usual if block is None else block]
        )
        (one,) = maps["image_intermediates"]  # [2 width rows cols]
        found = encoder._features(pixels[:, 0])
        for row, col in ((0, 0), (0, 1), (one.shape[2] - 1, one.shape[3] - 1)):
            place = row * one.shape[3] + col
            torch.testing.assert_close(found[:, place], one[:, :, row, col], atol=1e-4, rtol=1e-3)
        assert encoder(pixels, views).values.shape == (2, one.shape[2] * one.shape[3], 8)
    assert token_grid(encoder, SCHEMA(size=(side, side), channels=3)) == tuple(one.shape[2:])


def test_blocks_behind_the_one_that_is_read_are_dropped(vit):
    assert len(open_it(vit, 32, grid=True).tower.transformer.resblocks) == 2
    assert len(open_it(vit, 32, grid=True, block=0).tower.transformer.resblocks) == 1
    with pytest.raises(ValueError, match=r"block should be one of the tower's blocks, got 3"):
        open_it(vit, 32, grid=True, block=3)


def test_a_stored_tower_never_learns_even_if_a_loop_sets_its_gradients_free(vit):
    encoder = open_it(vit, 32).train()
    assert not any(parameter.requires_grad for parameter in encoder.tower.parameters())
    before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    encoder.requires_grad_(True)
    optimiser = torch.optim.AdamW(encoder.parameters(), lr=0.1, weight_decay=0.1)
    encoder(*pictures(32)[1:]).values.pow(3).sum().backward()
    optimiser.step()
    changed = {name for name, tensor in encoder.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed == {"norm.weight", "norm.bias", "project.weight", "project.bias"}


def test_it_learns_if_that_is_asked_for_and_if_its_weights_are_random(vit):
    for encoder in (open_it(vit, 32, frozen=False), open_it({"model_cfg": small(VIT)}, 32)):
        encoder(*pictures(32)[1:]).values.pow(3).sum().backward()
        assert encoder.tower.conv1.weight.grad.abs().sum() > 0


def test_a_row_is_judged_alone_while_a_convolution_learns():
    encoder = open_it({"model_cfg": small(CNN)}, 64).train()
    _, pixels, views = pictures(64)
    torch.testing.assert_close(
        encoder(pixels[:1], views[:1]).values, encoder(pixels, views).values[:1], atol=1e-5, rtol=1e-4
    )


def small(vision):
    return {"embed_dim": 12, "vision_cfg": vision}


def test_it_says_by_which_name_its_tower_can_be_opened_again(vit):
    encoder = open_it(vit, 32, grid=True)
    assert encoder.opened_as == {"name": vit, "revision": None}
    own = {name: tensor for name, tensor in encoder.state_dict().items() if not name.startswith("tower.")}
    assert set(own) == {"gain", "offset", "norm.weight", "norm.bias", "project.weight", "project.bias"}
    other = open_it(encoder.opened_as["name"], 32, grid=True)
    other.load_state_dict(own, strict=False)
    _, pixels, views = pictures(32)
    assert torch.equal(other(pixels, views).values, encoder(pixels, views).values)
    assert open_it({"model_cfg": small(VIT)}, 32).opened_as is None


def test_what_it_says_of_itself_builds_it_without_its_files(vit):
    encoder = open_it(vit, 32, grid=True)
    options = json.loads(json.dumps(encoder.rebuild))
    assert vit.removeprefix("local-dir:") not in json.dumps(options)
    other = open_it(**options, side=32)
    other.load_state_dict(encoder.state_dict())
    _, pixels, views = pictures(32)
    assert torch.equal(other(pixels, views).values, encoder(pixels, views).values)
    assert other.frozen


def test_a_model_with_such_an_encoder_is_described_without_the_folder(vit):
    schema = Schema({"scan": SCHEMA(size=(32, 32))}, {"ill": Binary("ill")})
    model = create_model(schema, encoders={"scan": ("open_clip", {"name": vit})}, dim=8, state_dim=8)
    assert model.config["encoders"]["scan"]["options"]["name"]["model_cfg"]["embed_dim"] == 12


def test_a_hub_model_is_taken_from_the_cache_and_by_its_commit(vit, tmp_path, monkeypatch):
    commit = "0123456789abcdef0123456789abcdef01234567"
    cache = tmp_path / "models--clinic--clip"
    write_to = cache / "snapshots" / commit
    write_to.parent.mkdir(parents=True)
    write(write_to, VIT)
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text(commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub._snapshot_download.constants.HF_HUB_CACHE", str(tmp_path))
    encoder = open_it("hf-hub:clinic/clip", 32)
    assert encoder.opened_as == {"name": "hf-hub:clinic/clip", "revision": commit}
    _, pixels, _ = pictures(32)
    assert torch.equal(encoder._features(pixels[:, 0]), open_it(vit, 32)._features(pixels[:, 0]))
    with pytest.raises(
        ValueError, match=r"Fetch it once with huggingface_hub.snapshot_download\(\"clinic/x\"\)"
    ):
        open_it("hf-hub:clinic/x", 32)


def test_a_hub_name_is_looked_up_in_the_cache_alone_at_the_revision(vit, monkeypatch):
    asked = []

    def lookup(*names, **options):
        asked.append((names, options))
        return vit.removeprefix("local-dir:")

    monkeypatch.setattr("huggingface_hub.snapshot_download", lookup)
    open_it("hf-hub:clinic/clip", 32, revision="v2")
    assert asked == [(("clinic/clip",), {"revision": "v2", "local_files_only": True})]


def test_wrong_names_files_and_sizes_are_refused_with_what_to_do(vit, tmp_path):
    with pytest.raises(ValueError, match='Did you mean "ViT-B-32"'):
        open_it("ViT-B-32x", 32)
    with pytest.raises(ValueError, match=r"should hold a readable open_clip_config\.json"):
        open_it(f"local-dir:{tmp_path}", 32)
    with pytest.raises(ValueError, match="should describe a model"):
        open_it(write(tmp_path / "odd", VIT, {"model": 1}), 32)
    (tmp_path / "odd" / "open_clip_config.json").write_text(
        json.dumps({"model_cfg": small({**VIT, "width": 8})})
    )
    with pytest.raises(ValueError, match=r"does not fit the open_clip_config\.json"):
        open_it(f"local-dir:{tmp_path / 'odd'}", 32)
    (tmp_path / "odd" / "open_clip_model.safetensors").unlink()
    with pytest.raises(ValueError, match="holds no weights"):
        open_it(f"local-dir:{tmp_path / 'odd'}", 32)
    with pytest.raises(ValueError, match=r"cannot take pictures of 48 x 48 pixels.*made for \(32, 32\)"):
        open_it(vit, 48)
    with pytest.raises(ValueError, match="1 or 3 channels, got 2"):
        OpenClipImageEncoder(vit, channels=2, size=(32, 32))
    with pytest.raises(ValueError, match="cannot build the tower"):
        open_it({"model_cfg": small({**VIT, "depth": 3})}, 32)
    with pytest.raises(ValueError, match="built for this size"):
        open_it(vit, 32)(*pictures(40)[1:])


def test_the_line_that_installs_open_clip_is_named_where_it_is_absent(monkeypatch):
    ordinary = builtins.__import__

    def without(name, *rest):
        if name == "open_clip":
            raise ImportError(name)
        return ordinary(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r'pip install "mmmed\[clip\]"'):
        open_it({"model_cfg": small(VIT)}, 32)


def test_a_generator_is_saved_with_the_name_of_its_tower_and_without_its_weights(vit, tmp_path):
    from safetensors.torch import load_file
    from small_reporter import make_cohort, make_reporter

    import mmmed

    cohort = make_cohort(20)
    reporter = make_reporter(cohort, encoders={"image": ("open_clip", {"name": vit, "grid": True})})
    reporter.config = {**reporter.config}
    reporter.save_pretrained(tmp_path / "model")
    kept = load_file(tmp_path / "model" / "model.safetensors")
    assert not [name for name in kept if name.startswith("encoders.image.tower.")]
    assert "encoders.image.project.weight" in kept
    opened = mmmed.load_model(tmp_path / "model")
    records = list(cohort["test"])[:2]
    for one, other in zip(
        opened.generate(records, limit=6), reporter.generate(records, limit=6), strict=True
    ):
        assert one.text == other.text
