"""Tokens of a patient into a language model: adapters, prompts, language models, and what a report states."""

from mmmed.lazily import lazily

_PLACES = {
    "FindingTable": "finding_tables",
    "Labeller": "labeller",
    "Prompt": "prompt",
    "ReportTokenizer": "tokenizer",
    "TargetFilter": "target_filter",
    "add_lora": "lora",
    "finding_table": "finding_tables",
    "open_language_model": "language_model",
    "small_llama": "language_model",
    "train_tokenizer": "tokenizer",
}
__all__ = [
    "FindingTable",
    "Labeller",
    "Prompt",
    "ReportTokenizer",
    "TargetFilter",
    "add_lora",
    "finding_table",
    "open_language_model",
    "small_llama",
    "train_tokenizer",
]
__getattr__ = lazily(__name__, _PLACES)
