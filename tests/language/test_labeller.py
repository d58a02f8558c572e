"""The labeller: by hand on sentences of every kind, exact numbers, and no text that breaks it."""

import copy
import tarfile
import time
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmmed.data.synthetic import generate
from mmmed.language.labeller import STATUSES, Finding, FindingTable, Labeller

P, U, A = STATUSES
CHEST, SYNTHETIC = Labeller("chest"), Labeller("synthetic")
PROBES = [
    ("No pleural effusion.", {"Pleural Effusion": A}),
    ("Pleural effusion.", {"Pleural Effusion": P}),
    ("Small left effusion, no pneumothorax.", {"Pleural Effusion": P, "Pneumothorax": A}),
    (
        "No effusion, consolidation or pneumothorax.",
        {"Pleural Effusion": A, "Consolidation": A, "Pneumothorax": A},
    ),
    (
        "No effusion, consolidation, pneumothorax.",
        {"Pleural Effusion": A, "Consolidation": A, "Pneumothorax": A},
    ),
    (
        "Effusion, consolidation and pneumothorax are not seen.",
        {"Pleural Effusion": A, "Consolidation": A, "Pneumothorax": A},
    ),
    ("No consolidation, mild edema/effusion.", {"Consolidation": A, "Edema": A, "Pleural Effusion": A}),
    ("A pneumonia would be a consideration.", {"Pneumonia": U}),
    ("Evidence of previous granulomatous infection.", {}),
    ("The effusion is small and pneumothorax is not seen.", {"Pleural Effusion": P, "Pneumothorax": A}),
    ("The pneumothorax has resolved.", {"Pneumothorax": A}),
    ("The pneumothorax is no longer seen.", {"Pneumothorax": A}),
    ("Resolved left pneumothorax.", {"Pneumothorax": A}),
    ("Lungs are free of consolidation.", {"Consolidation": A}),
    ("Negative for pneumothorax.", {"Pneumothorax": A}),
    ("neg for fracture", {"Fracture": A}),
    ("Consolidation is absent.", {"Consolidation": A}),
    ("Pneumothorax: none.", {"Pneumothorax": A}),
    ("Atelectasis rather than pneumonia.", {"Atelectasis": P, "Pneumonia": A}),
    ("Bibasilar opacity, may reflect atelectasis.", {"Lung Opacity": P, "Atelectasis": U}),
    ("Opacity which could represent pneumonia.", {"Lung Opacity": P, "Pneumonia": U}),
    ("Opacity suspicious for pneumonia.", {"Lung Opacity": P, "Pneumonia": U}),
    ("Possible small pleural effusion.", {"Pleural Effusion": U}),
    ("A small effusion cannot be excluded.", {"Pleural Effusion": U}),
    ("Pneumothorax is not excluded.", {"Pneumothorax": U}),
    ("Cannot exclude pneumonia.", {"Pneumonia": U}),
    ("?pneumonia", {"Pneumonia": U}),
    ("Left effusion?", {"Pleural Effusion": U}),
    ("An effusion may be present.", {"Pleural Effusion": U}),
    ("Atelectasis versus pneumonia.", {"Atelectasis": U, "Pneumonia": U}),
    ("Atelectasis or consolidation at the left base.", {"Atelectasis": U, "Consolidation": U}),
    ("Pneumonia is unlikely.", {"Pneumonia": U}),
    ("No focal opacity to suggest pneumonia.", {"Lung Opacity": A, "Pneumonia": A}),
    (
        "No evidence of pneumothorax, but there is a small effusion.",
        {"Pneumothorax": A, "Pleural Effusion": P},
    ),
    ("No pneumothorax; mild edema.", {"Pneumothorax": A, "Edema": P}),
    ("No pneumothorax, mild edema.", {"Pneumothorax": A, "Edema": P}),
    (
        "No pneumothorax, mild edema or large effusion.",
        {"Pneumothorax": A, "Edema": A, "Pleural Effusion": A},
    ),
    ("No acute disease other than mild cardiomegaly.", {"Cardiomegaly": P}),
    ("Cardiomegaly without effusion.", {"Cardiomegaly": P, "Pleural Effusion": A}),
    ("Mild cardiomegaly with no edema.", {"Cardiomegaly": P, "Edema": A}),
    ("No change in the small effusion.", {"Pleural Effusion": P}),
    ("The effusion is not significantly changed.", {"Pleural Effusion": P}),
    ("The heart is not enlarged.", {"Cardiomegaly": A}),
    ("The heart is mildly enlarged.", {"Cardiomegaly": P}),
    ("Heart size is normal.", {"Cardiomegaly": A}),
    (
        "Cardiomediastinal silhouette is within normal limits.",
        {"Cardiomegaly": A, "Enlarged Cardiomediastinum": A},
    ),
    ("Widened mediastinum.", {"Enlarged Cardiomediastinum": P}),
    ("Congestive heart failure.", {"Cardiomegaly": U, "Edema": P}),
    ("The lungs are clear.", {"Lung Opacity": A}),
    ("History of pneumonia.", {}),
    ("Pericardial effusion.", {}),
    ("Blunting of the left costophrenic angle.", {"Pleural Effusion": U}),
    ("Right picc line tip in the svc.", {"Support Devices": P}),
    ("The endotracheal tube has been removed.", {"Support Devices": A}),
    ("Calcified granuloma in the right upper lobe.", {"Lung Lesion": P}),
    ("Biapical pleural thickening.", {"Pleural Other": P}),
    ("Bony structures are intact.", {"Fracture": A}),
    ("Old rib fractures.", {"Fracture": P}),
    ("Hydropneumothorax on the right.", {"Pneumothorax": P, "Pleural Effusion": P}),
    ("Effusion is small. No effusion on the left.", {"Pleural Effusion": P}),
    ("Possible edema. No edema.", {"Edema": U}),
    ("No definite pneumothorax identified.", {"Pneumothorax": A}),
    ("Neither effusion nor pneumothorax.", {"Pleural Effusion": A, "Pneumothorax": A}),
    ("Pneumonia has been ruled out.", {"Pneumonia": A}),
    ("No effusion is seen and the heart is enlarged.", {"Pleural Effusion": A, "Cardiomegaly": P}),
    (
        "Although no pneumothorax is seen, there is a large effusion.",
        {"Pneumothorax": A, "Pleural Effusion": P},
    ),
    ("Effusion not seen on prior is now present.", {"Pleural Effusion": P}),
    ("Without pneumothorax and with atelectasis.", {"Pneumothorax": A, "Atelectasis": P}),
    (
        "Opacities, likely atelectasis, without effusion.",
        {"Lung Opacity": P, "Atelectasis": U, "Pleural Effusion": A},
    ),
    ("1. No pneumothorax.\n2. Small effusion.", {"Pneumothorax": A, "Pleural Effusion": P}),
    ("No effusion.Small pneumothorax.", {"Pleural Effusion": A, "Pneumothorax": P}),
    ("Lines: none. Atelectasis.", {"Atelectasis": P}),
    ("There is no pneumothorax with stable right nodule.", {"Pneumothorax": A, "Lung Lesion": P}),
    ("Mass effect.", {}),
    ("Interval removal of the chest tube.", {"Support Devices": A}),
    ("Absence of edema.", {"Edema": A}),
    ("Probable pneumonia, no effusion.", {"Pneumonia": U, "Pleural Effusion": A}),
    ("No effusion, possible pneumonia.", {"Pneumonia": U, "Pleural Effusion": A}),
    ("No consolidation is seen; atelectasis cannot be ruled out.", {"Consolidation": A, "Atelectasis": U}),
    ("Lungs: No consolidation. Heart: enlarged.", {"Consolidation": A, "Cardiomegaly": P}),
    ("Fracture is not excluded, no pneumothorax.", {"Fracture": U, "Pneumothorax": A}),
]


@pytest.mark.parametrize(("text", "wanted"), PROBES)
def test_sentences_by_hand(text, wanted):
    labels = CHEST.labels(text)
    labels.pop("No Finding")
    assert labels == wanted


SENTENCES = [
    ("Non-displaced rib fracture.", {"Fracture": P}),
    ("Non displaced rib fracture.", {"Fracture": P}),
    ("No non-displaced fracture.", {"Fracture": A}),
    ("Non-calcified nodule.", {"Lung Lesion": P}),
    ("Non-specific opacity.", {"Lung Opacity": P}),
    *(
        (f"No pneumothorax with {word} effusion.", {"Pneumothorax": A, "Pleural Effusion": P})
        for word in ("large left", "extensive", "trace", "bibasilar", "a small", "massive")
    ),
    (
        "No pneumothorax with large effusion or edema.",
        dict.fromkeys(["Edema", "Pneumothorax", "Pleural Effusion"], A),
    ),
    ("Heart size is not normal.", {"Cardiomegaly": U}),
    ("The heart is not of normal size.", {"Cardiomegaly": U}),
    ("Not a normal heart.", {"Cardiomegaly": U}),
    ("The heart is not enlarged and normal.", {"Cardiomegaly": A}),
    ("Heart size is not changed and within normal limits.", {"Cardiomegaly": A}),
    ("Lungs are not clear.", {"Lung Opacity": U}),
    ("The lungs are not entirely clear.", {"Lung Opacity": U}),
    ("Patient without known cancer has a nodule.", {"Lung Lesion": P}),
    ("Without known cancer there is a nodule.", {"Lung Lesion": P}),
    ("Without effusion or nodule.", {"Pleural Effusion": A, "Lung Lesion": A}),
    ("The lung no longer has an effusion.", {"Pleural Effusion": A}),
]


@pytest.mark.parametrize(("text", "wanted"), SENTENCES)
def test_common_sentences_by_hand(text, wanted):
    assert CHEST.labels_of_sentence(text) == wanted


def test_a_sentence_never_says_that_a_report_has_no_finding():
    for text in ("The lungs are clear.", "No acute disease.", "No effusion.", "Scoliosis."):
        assert CHEST.labels(text)["No Finding"] == P
        assert CHEST.labels_of_sentence(text).keys() == CHEST.labels(text).keys() - {"No Finding"}
    assert SYNTHETIC.labels_of_sentence("Cough.") == {"cough": P}


def test_any_needed_modality_can_show_a_finding():
    one = Finding("mass", ("mass",), needs=("ct", "mri"), by=("side",))
    labeller = Labeller(FindingTable("own", (one, Finding("free", ("free",)))))
    for name in ("mass", "mass, right"):
        assert labeller.can_show(name, ["mri", "labs"])
        assert labeller.can_show(name, {"ct"})
        assert not labeller.can_show(name, ["labs"])
        assert not labeller.can_show(name, [])
    assert labeller.can_show("free", ["labs"])
    assert not labeller.can_show("free", [])
    with pytest.raises(ValueError, match='Did you mean "mass"'):
        labeller.can_show("mas", ["ct"])


def test_topics_are_labels_that_stand_for_themselves():
    assert CHEST.topics == CHEST.table.labels[:-1]
    wanted = ("nodule", "effusion", "pneumothorax", "cough", "haemoptysis", "raised ldh", "low albumin")
    assert SYNTHETIC.topics == wanted


GERMAN = ["Kein Erguss. Herz normal groß.", "Keine frische Verschattung.", "Unauffälliger Befund."]


def test_coverage_is_the_share_of_texts_with_a_finding():
    assert CHEST.coverage(GERMAN) == CHEST.coverage([]) == CHEST.coverage(["", "No acute disease."]) == 0
    assert CHEST.coverage([*GERMAN, "No effusion."]) == 0.25
    assert SYNTHETIC.coverage(generate(50, seed=1).table["report"]) == 1
    assert CHEST.coverage([*["Kein Erguss."] * 30_000, *["No effusion."] * 10_000]) == 0.25


def test_coverage_reads_no_further_than_it_must():
    labeller = Labeller("chest")
    start = time.process_time()
    labeller.coverage([f"No effusion {place}. " + "Edema. Cardiomegaly. " * 50 for place in range(100_000)])
    labeller.coverage([f"Kein Erguss {place}." for place in range(100_000)])
    assert time.process_time() - start < 2
    assert len(labeller._remembered) <= 4_000  # 2,000 texts each, of the first only one sentence


FLIPS = [
    "pleural effusion",
    "pneumothorax",
    "consolidation",
    "atelectasis",
    "rib fracture",
    "pulmonary edema",
    "mass",
]


@pytest.mark.parametrize("term", FLIPS)
@pytest.mark.parametrize(
    "denied", ["No {}.", "There is no {}.", "{} is not seen.", "Negative for {}.", "{} has resolved."]
)
def test_a_negation_turns_the_label_round(term, denied):
    stated = CHEST.labels(f"There is {term}.")
    turned = CHEST.labels(denied.format(term))
    names = set(stated) - {"No Finding"}
    assert names
    assert {stated[name] for name in names} == {P}
    assert {turned[name] for name in names} == {A}
    assert (stated["No Finding"], turned["No Finding"]) == (A, P)


@pytest.mark.parametrize("term", FLIPS)
@pytest.mark.parametrize(
    "doubt", ["Possible {}.", "{} cannot be excluded.", "Findings may reflect {}.", "?{}", "{} is suspected."]
)
def test_a_doubt_leaves_the_label_open(term, doubt):
    names = set(CHEST.labels(f"There is {term}.")) - {"No Finding"}
    assert {CHEST.labels(doubt.format(term))[name] for name in names} == {U}


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("Effusion. No effusion. Possible effusion.", P),
        ("No effusion. Possible effusion.", U),
        ("No effusion. Effusion is absent.", A),
    ],
)
def test_present_wins_over_uncertain_over_absent(text, wanted):
    assert CHEST.labels(text)["Pleural Effusion"] == wanted


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("The lungs are clear.", P),
        ("Scoliosis.", P),
        ("No effusion. A pacemaker is in place.", P),
        ("Possible pacemaker.", P),
        ("Possible effusion.", A),
        ("Normal chest apart from an old rib fracture.", A),
    ],
)
def test_no_finding_means_nothing_but_devices(text, wanted):
    assert CHEST.labels(text)["No Finding"] == wanted


def test_a_text_without_words_states_nothing():
    for text in ("", "  ", "...", "\x00", "\n\n- \n"):
        assert CHEST.labels(text) == {}
        assert CHEST.mentions(text) == ()


def test_targets_are_numbers_with_what_is_known():
    values, known = SYNTHETIC.targets(["Query eff right. Solid nodule LLZ, 25 mm. No ptx.", "Cough."])
    column = SYNTHETIC.table.labels.index
    assert values.shape == known.shape == (2, 19)
    assert (values.dtype, known.dtype) == (np.float32, bool)
    present = {label for label, value in zip(SYNTHETIC.table.labels, values[0], strict=True) if value}
    assert present == {"nodule, left lower", "density solid", "size medium"}
    assert np.argwhere(~known).tolist() == [[0, column("effusion, right")]]
    assert values[1].nonzero()[0].tolist() == [column("cough")]
    assert [part.shape for part in SYNTHETIC.targets([])] == [(0, 19), (0, 19)]


def test_labels_come_in_the_order_of_the_table():
    labels = list(CHEST.labels("Fracture. Effusion. Cardiomegaly. Edema."))
    assert labels == sorted(labels, key=CHEST.table.labels.index)


WORDS = [
    "no",
    "not",
    "without",
    "possible",
    "effusion",
    "nodule",
    ",",
    ".",
    ";",
    "but",
    "or",
    "left",
    "3 mm",
    "?",
    "cannot",
]
texts = st.one_of(st.text(max_size=200), st.lists(st.sampled_from(WORDS), max_size=40).map(" ".join))


@given(texts, st.sampled_from(["chest", "breast-us", "synthetic"]))
def test_no_text_raises_and_labels_are_labels(text, name):
    labeller = Labeller(name)
    labels = labeller.labels(text)
    assert set(labels) <= set(labeller.table.labels)
    assert set(labels.values()) <= set(STATUSES)
    named = {finding.name for finding in labeller.table.findings}
    assert {mention.finding for mention in labeller.mentions(text)} <= named


@given(texts)
def test_what_was_read_before_changes_nothing(text):
    CHEST.labels("No effusion, " + text)
    assert CHEST.labels(text) == Labeller(CHEST.table).labels(text)


def test_only_text_is_read():
    with pytest.raises(ValueError, match="reads text, got None"):
        CHEST.mentions(None)
    with pytest.raises(ValueError, match="reads text"):
        CHEST.labels(float("nan"))


def test_a_long_text_takes_time_in_proportion():
    for unit in ("effusion ", "no effusion or nodule ", "No effusion. ", "\u0130 effusion, "):
        start = time.process_time()
        CHEST.labels(unit * 5_000)
        assert time.process_time() - start < 5, unit


def test_a_labeller_can_be_sent_to_a_worker():
    CHEST.labels("No effusion.")
    again = copy.deepcopy(CHEST)
    assert again.labels("Possible effusion.")["Pleural Effusion"] == U


def test_other_languages_come_as_a_table_of_their_own():
    words = FindingTable("german", (Finding("Erguss", ("pleuraerguss", "erguss")),))
    cues = {**words.to_dict(), "cues": {"absent_before": ["kein(?:e|en)?"], "uncertain_before": ["v\\.a\\."]}}
    labeller = Labeller(cues)
    assert labeller.labels("Kein Pleuraerguss.") == {"Erguss": A}
    assert labeller.labels("Kleiner Erguss links.") == {"Erguss": P}


# Agreement with the codes that indexers gave the reports: class -> code, least F1 of "present".
CODES = {
    "Cardiomegaly": (("Cardiomegaly", "Cardiac Shadow/enlarged"), 0.91),
    "Pleural Effusion": (("Pleural Effusion",), 0.91),
    "Pneumothorax": (("Pneumothorax", "Hydropneumothorax", "Hemopneumothorax"), 0.87),
    "Atelectasis": (("Pulmonary Atelectasis", "Volume Loss"), 0.91),
    "Fracture": (("Fractures, Bone",), 0.88),
}


def reports(archive):
    """Findings and impression of each report with its codes, read in memory."""
    with tarfile.open(archive) as files:
        for member in files:
            if member.name.endswith(".xml"):
                root = ElementTree.fromstring(files.extractfile(member).read())
                parts = {part.get("Label"): part.text or "" for part in root.iter("AbstractText")}
                codes = [code.text for code in root.iter("major")]
                yield f"{parts.get('FINDINGS', '')} {parts.get('IMPRESSION', '')}", codes


@pytest.mark.real_data
def test_real_reports_are_read_as_their_indexers_read_them(real_cohorts):
    archive = real_cohorts / "openi-reports" / "NLMCXR_reports.tgz"
    if not archive.exists():
        pytest.skip("needs the reports of the Indiana University collection")
    read = [(CHEST.labels(text), codes) for text, codes in reports(archive) if "No Indexing" not in codes]
    assert len(read) > 3800
    for name, (starts, least) in CODES.items():
        coded = np.array([any(code.startswith(starts) for code in codes) for _, codes in read])
        stated = np.array([labels.get(name) == P for labels, _ in read])
        assert 2 * (coded & stated).sum() / (coded.sum() + stated.sum()) > least, name
