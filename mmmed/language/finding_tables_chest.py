"""The fourteen classes of CheXpert (Irvin et al., arXiv:1901.07031, table 1), with patterns of our own.

"No Finding" is present if and only if no other class but Support Devices is present or uncertain. Heart
failure is edema, and an uncertain cardiomegaly; a blunted costophrenic angle is an uncertain effusion.
"""

from __future__ import annotations

from mmmed.language.finding_tables import Finding, FindingTable

IMAGE = ("image",)
_MORE = r"(?:\w+ ){0,3}?"  # a few words between
_BIG = "(?:enlarged|large|increased|prominent|widened|wide)"
_WITHIN = "within (?:normal|limits of normal)"
_FINE = f"(?:normal|unremarkable|upper limits?|upper normal|top[ -]normal|{_WITHIN}|not enlarged)"
_SHADOW = "(?:silhouettes?|contours?)"
_HEART = (
    rf"(?:heart(?: size)?|cardiac (?:{_SHADOW}|shadow|size)|cardio-?mediastinal {_SHADOW}"
    rf"|cardiac and mediastinal {_SHADOW})"
)
_MEDIASTINUM = (
    rf"(?:(?:superior )?mediastin(?:um|al (?:{_SHADOW}|structures|borders?|size|shadow))"
    rf"|cardio-?mediastin(?:um|al (?:{_SHADOW}|structures)))"
)
_LONG = r"[^.;:]{0,60}?"
_HEART_FAILURE = ("(?:congestive )?heart failure", "chf", "cardiac decompensation")

CHEST = FindingTable(
    "chest",
    findings=(
        Finding(
            "Enlarged Cardiomediastinum",
            (
                rf"{_MEDIASTINUM} (?:is |are |appears? )?{_MORE}(?:enlarged|prominent|widened|wide)",
                rf"(?:enlarged|prominent|widened|wide) {_MEDIASTINUM}",
                "mediastinal (?:widening|enlargement|prominence)",
                rf"(?:widening|prominence|enlargement) of (?:the )?{_MEDIASTINUM}",
            ),
            IMAGE,
            absent=(rf"{_MEDIASTINUM}{_LONG} {_FINE}", rf"normal (?:\w+ ){{0,4}}?{_MEDIASTINUM}"),
            question="Is the mediastinum wide?",
        ),
        Finding(
            "Cardiomegaly",
            (
                "cardiomegaly",
                rf"{_HEART}:? {_MORE}{_BIG}",
                rf"{_BIG} {_MORE}(?:heart|cardiac silhouette|cardiac shadow|cardiomediastinal silhouette)",
                r"enlargement of (?:the )?(?:\w+ )?(?:heart|cardiac silhouette|cardiomediastinal silhouette)",
                "cardiac (?:enlargement|hypertrophy)",
                "(?:ventricular|atrial|chamber) enlargement",
                "cardiomyopathy",
            ),
            IMAGE,
            absent=(rf"{_HEART}{_LONG} {_FINE}", rf"normal {_MORE}(?:heart|cardiac|cardiomediastinal)"),
            uncertain=(
                *_HEART_FAILURE,
                rf"{_HEART}{_LONG} borderline (?:enlarged|large|size)",
                rf"borderline {_MORE}(?:heart|cardiac|cardiomegaly)(?: size| silhouette)?(?: enlargement)?",
            ),
        ),
        Finding(
            "Lung Lesion",
            (
                "(?:micro)?nodul(?:es?|ar (?:opacit|densit|lesion)(?:y|ies|s)?|arity)",
                "mass(?:es)?(?! effect)",
                "mass-?like",
                "granuloma(?:s|ta)?",
                "lesions?",
                "tumou?rs?",
                "neoplasms?",
                "malignancy",
                "metasta(?:sis|ses|tic(?: disease)?)",
                "cavit(?:y|ies|ary|ation)",
            ),
            IMAGE,
        ),
        Finding(
            "Lung Opacity",
            (
                "(?<!soft tissue )(?<!bone )(?<!bony )opacit(?:y|ies)",
                "opacifications?",
                "infiltrates?",
                "infiltrations?",
                "infiltrative",
                "air-?space (?:disease|process|consolidations?)",
                "air space (?:disease|process|consolidations?)",
                r"(?<!tissue )(?<!bone )(?<!bony )densit(?:y|ies)",
                "haz(?:y|iness)",
                "interstitial (?:markings|prominence|thickening|opacities|changes|disease|pattern)",
                r"(?:prominent|increased|coarsened|coarse) (?:\w+ ){0,2}markings",
                "reticul(?:ar|ation|onodular)",
                "ground[ -]glass",
            ),
            IMAGE,
            absent=(
                r"lungs?(?: fields?)? (?:\w+ ){0,4}?clear",
                "clear (?:lungs?|bilaterally)",
                "clear, (?:\\w+ )lungs",
            ),
        ),
        Finding(
            "Edema",
            (
                "o?edema(?:tous)?",
                r"(?:vascular|pulmonary|venous|cardiac) (?:\w+ )?congestion",
                "congestive (?:changes|failure)",
                "(?:vascular|venous|pulmonary) (?:\\w+ )?(?:engorgement|prominence)",
                r"(?:prominent|engorged|accentuated|increased) (?:\w+ ){0,2}vascul(?:arity|ature)",
                r"vascul(?:arity|ature) (?:is )?(?:\w+ )?(?:prominent|engorged|increased|indistinct)",
                "cephali[sz]ation",
                "kerley(?: b)?(?: lines)?",
                "(?:fluid|volume) overload",
                *_HEART_FAILURE,
            ),
            IMAGE,
            absent=(
                rf"vascul(?:arity|ature|ar engorgement)[^.;:]{{0,30}}? (?:normal|unremarkable|{_WITHIN})",
            ),
        ),
        Finding(
            "Consolidation",
            ("consolidat(?:ions?|ive|ed)", "air bronchograms?"),
            IMAGE,
        ),
        Finding(
            "Pneumonia",
            (
                "(?:broncho)?pneumonias?",
                "pneumonitis",
                "(?<!granulomatous )infecti(?:ons?|ous)(?: process| etiology| infiltrates?)?",
            ),
            IMAGE,
        ),
        Finding(
            "Atelectasis",
            (
                "atelect\\w+",
                "(?:lung|lobar|lobe|pulmonary|segmental) collapse",
                "collapse of (?:\\w+ ){0,5}?(?:lung|lobes?)",
                "collapsed (?:\\w+ )?(?:lung|lobe)",
                "volume loss",
                "loss of (?:lung )?volume",
            ),
            IMAGE,
        ),
        Finding(
            "Pneumothorax",
            ("(?:hydro|haemo|hemo)?pneumothora(?:x|ces|xes)", "ptx", "pleural air collections?"),
            IMAGE,
        ),
        Finding(
            "Pleural Effusion",
            (
                "(?<!pericardial )effusions?",
                "pleural fluid",
                "(?:hydro|haemo|hemo)(?:pneumo)?thorax",
                "fluid (?:in|along|within) (?:the )?(?:\\w+ ){0,2}(?:fissures?|pleural space)",
            ),
            IMAGE,
            absent=(
                "pleural spaces? (?:is |are )?(?:clear|normal|unremarkable)",
                "costophrenic (?:angles?|sulci|recess(?:es)?|sulcus) (?:is |are )?(?:\\w+ )?(?:clear|sharp)",
            ),
            uncertain=(
                r"blunt(?:ing|ed)(?: of)? (?:the )?(?:\w+ ){0,4}?(?:costophrenic|cp)",
                r"(?:costophrenic|cp) (?:\w+ ){1,4}?blunt(?:ing|ed)",
            ),
        ),
        Finding(
            "Pleural Other",
            (
                "pleural (?:\\w+ ){0,2}?(?:thickening|scar(?:s|ring)?|plaques?|calcifications?|based)",
                "pleural (?:\\w+ ){0,2}?(?:fibrosis|mass(?:es)?|disease)",
                "pleural-parenchymal scarring",
                "pleuroparenchymal scarring",
                "fibrothorax",
                "(?:bi)?apical (?:pleural )?(?:capping|cap|thickening)",
                "thickening of the pleura",
            ),
            IMAGE,
            question="Is there a change of the pleura other than an effusion?",
        ),
        Finding(
            "Fracture",
            ("(?:micro)?fractur(?:es?|ed)",),
            IMAGE,
            absent=(
                r"(?:bony|osseous|bones?)(?: \w+){0,3}? intact",
                "(?:bones|ribs) (?:are |appear )?intact",
            ),
        ),
        Finding(
            "Support Devices",
            (
                "catheters?",
                "picc(?: lines?)?",
                "(?:central|venous|picc|jugular|subclavian|svc|ij) lines?",
                "pace-?makers?",
                "pacers?",
                "(?:pacing|pacemaker|icd|aicd) (?:leads?|wires?|device)",
                "leads",
                "a?icd",
                "defibrillators?",
                "(?:endotracheal |tracheostomy |chest |feeding |nasogastric |ng |et |gastrostomy )?tubes?",
                "tubing",
                "port-?a-?cath",
                "mediport",
                "(?:chest|infusion|subclavian|jugular|dialysis) ports?",
                "stents?",
                "(?:surgical |vascular |cholecystectomy )?(?:clips?|staples)",
                "(?:sternal|sternotomy|cerclage) (?:\\w+ )?(?:wires?|sutures?)",
                "(?:valve|valvular) (?:replacement|prosthesis)",
                "(?:prosthetic|artificial|mechanical) (?:\\w+ )?valves?",
                "prosthes[ie]s",
                "(?:orthopedic |surgical |spinal |fixation |fusion )hardware",
                "stimulators?",
                "shunt",
                "arthroplast(?:y|ies)",
                "(?:intra-?aortic )?balloon pump",
                "vads?",
                "drains?",
                "prosthetic",
                "(?:surgical |bone )?(?:screws?|anchors?|sutures?)",
                "tips? (?:\\w+ ){1,5}?(?:svc|atri(?:um|al)|cavoatrial|vena cava)",
            ),
            IMAGE,
        ),
        Finding(
            "No Finding",
            (
                rf"no {_MORE}(?:acute|active) {_MORE}(?:disease|abnormalit(?:y|ies)|process|findings?)",
                rf"(?:normal|negative|unremarkable) {_MORE}(?:chest|examination|exam|radiographs?|study)",
                "no (?:significant |evidence of )?(?:abnormalit(?:y|ies)|findings?)",
                "(?:lungs?|heart|mediastinum|chest) (?:is |are |appears? )?(?:clear|normal|unremarkable)",
            ),
            IMAGE,
        ),
    ),
    nothing="No Finding",
    nothing_but=("Support Devices",),
    otherwise=IMAGE,
)
