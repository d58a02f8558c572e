"""RadGraph, CheXbert and their like through RadEval, where it and its weights are there already.

These scores need network weights, which are nobody's to fetch in passing: nothing is downloaded here. What
is missing is named with the line that brings it; while a score runs, the hub and nltk are kept offline. Read
in RadEval 2.2 (github.com/jbdel/RadEval, MIT): `RadEval(metrics=[...], per_sample=True)(refs, hyps)`,
weights in the hub repository StanfordAIMI/RRG_scorers. Its RadGraph unpacks and its CheXbert unpickles what
was downloaded: take the weights from that repository and from nowhere else.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from mmmed.checks import MissingFile, check_known
from mmmed.evaluation.report_overlap import check_pairs

HUB = "StanfordAIMI/RRG_scorers"
CACHE = Path("~/.cache")  # where RadEval looks
# metric -> files that must be there, each with the line that brings it
WEIGHTS: Mapping[str, Mapping[str, str]] = {
    "radgraph": {
        "radgraph/0.1.18/radgraph-xl/config.json": (
            f"hf download {HUB} radgraph-xl.tar.gz --local-dir ~/.cache/radgraph && "
            "mkdir -p ~/.cache/radgraph/0.1.18/radgraph-xl && "
            "tar -xzf ~/.cache/radgraph/radgraph-xl.tar.gz -C ~/.cache/radgraph/0.1.18/radgraph-xl"
        )
    },
    "f1chexbert": {
        "chexbert/models--StanfordAIMI--RRG_scorers/snapshots/*/chexbert.pth": (
            f"hf download {HUB} chexbert.pth --cache-dir ~/.cache/chexbert"
        ),
        "huggingface/hub/models--bert-base-uncased/snapshots/*/vocab.txt": (
            "hf download bert-base-uncased config.json tokenizer.json tokenizer_config.json vocab.txt"
        ),
    },
}


def radeval(
    references: Sequence[str], hypotheses: Sequence[str], metric: str = "radgraph", cache: Path | None = None
) -> dict[str, np.ndarray]:
    """A metric of RadEval for each report, name -> [reports]; "radgraph" or "f1chexbert".

    cache: the folder of caches in which its weights are looked for, None = ~/.cache. Raises ImportError with
    the line to install, or `MissingFile` with the line to download; runs nothing on a network. Its CheXbert
    unpickles its weights, which mmmed itself never does: see the head of this file.
    """
    check_pairs(references, hypotheses)
    check_known(metric, WEIGHTS, what="metric of RadEval")
    package = next((name for name in ("radeval", "RadEval") if importlib.util.find_spec(name)), None)
    if package is None:
        raise ImportError('This needs the package "RadEval". Install it with: python -m pip install RadEval')
    _check_weights(metric, (cache or CACHE).expanduser())
    with _offline():
        scorer = importlib.import_module(package).RadEval(
            metrics=[metric], per_sample=True, show_progress=False
        )
        found = scorer(refs=list(references), hyps=list(hypotheses))
    return {name: np.asarray(values, dtype=float) for name, values in found.items()}


def _check_weights(metric: str, folder: Path) -> None:
    missing = {file: line for file, line in WEIGHTS[metric].items() if not any(folder.glob(file))}
    if missing:
        raise MissingFile(
            f'"{metric}" needs weights that are not there: {", ".join(missing)} in {folder}. '
            f"Download them once, knowingly: {' ; '.join(missing.values())}"
        )


@contextmanager
def _offline() -> Iterator[None]:
    """Keep the hub and nltk from reaching for the network; RadEval asks nltk to download when it is
    imported.
    """
    places: list[tuple[Any, str, Any]] = []
    for module, name, value in (
        ("huggingface_hub.constants", "HF_HUB_OFFLINE", True),
        ("nltk", "download", lambda *names, **options: True),
    ):
        if importlib.util.find_spec(module.split(".")[0]):
            place = importlib.import_module(module)
            places.append((place, name, getattr(place, name)))
            setattr(place, name, value)
    try:
        yield
    finally:
        for place, name, value in places:
            setattr(place, name, value)
