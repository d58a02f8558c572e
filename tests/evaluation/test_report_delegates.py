"""RadEval is used where it is, and nothing is ever fetched."""

import sys

import numpy as np
import pytest

from mmmed.checks import MissingFile
from mmmed.evaluation import report_delegates
from mmmed.evaluation.report_delegates import radeval

pytest.importorskip("nltk")

FAKE = """
import nltk, huggingface_hub.constants as hub
nltk.download("punkt_tab")
class RadEval:
    def __init__(self, metrics, per_sample, show_progress):
        assert hub.HF_HUB_OFFLINE is True
        self.name = metrics[0]
    def __call__(self, refs, hyps):
        return {self.name + "_partial": [float(a == b) for a, b in zip(refs, hyps)]}
"""


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """A package that looks like RadEval, and an nltk that must not be asked to download."""
    (tmp_path / "radeval.py").write_text(FAKE)
    monkeypatch.syspath_prepend(tmp_path)
    import nltk

    def refuse(*names, **options):
        raise AssertionError("a download was started")

    monkeypatch.setattr(nltk, "download", refuse)
    yield tmp_path
    sys.modules.pop("radeval", None)


def test_what_to_install_is_said(monkeypatch):
    monkeypatch.setattr(report_delegates.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match="pip install RadEval"):
        radeval(["a"], ["b"])


@pytest.mark.parametrize(
    ("metric", "words"), [("radgraph", "radgraph-xl.tar.gz"), ("f1chexbert", "chexbert.pth")]
)
def test_what_to_download_is_said_and_not_done(installed, metric, words):
    with pytest.raises(MissingFile, match=f"hf download StanfordAIMI/RRG_scorers {words}"):
        radeval(["a"], ["b"], metric, cache=installed / "cache")
    assert not (installed / "cache").exists()


def test_with_everything_there_it_runs_offline_and_leaves_the_switches_as_they_were(installed):
    import huggingface_hub.constants as hub
    import nltk

    before = (hub.HF_HUB_OFFLINE, nltk.download)
    weights = installed / "cache" / "radgraph" / "0.1.18" / "radgraph-xl" / "config.json"
    weights.parent.mkdir(parents=True)
    weights.write_text("{}")
    found = radeval(["a", "b"], ["a", "c"], "radgraph", cache=installed / "cache")
    np.testing.assert_array_equal(found["radgraph_partial"], [1, 0])
    assert (hub.HF_HUB_OFFLINE, nltk.download) == before


def test_an_unknown_metric_is_named():
    with pytest.raises(ValueError, match='Did you mean "radgraph"'):
        radeval(["a"], ["b"], "radgraf")
