"""Published cohorts: what each is used for, and what to do if it is not there. None of them is shipped.

Facts after the sets' own pages and papers: BrEaST (doi:10.1038/s41597-024-02984-z), COVID-19 Image Repository
(doi:10.6084/m9.figshare.12275009), COVID-19 image data collection
(github.com/ieee8023/covid-chestxray-dataset), LGG MRI Segmentation (Buda et al. 2019,
doi:10.1016/j.compbiomed.2019.05.002).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Published:
    """How a prepared folder is read, and how to come by it.

    target: the usual question. images: modality -> column; volumes: modality -> (column, key in the .npz);
    tables: modality -> columns, "" = every column whose role is an input of a table; text: the usual text
    column. what, download, licence, layout, first_file: the parts of the message when the folder is not
    there.
    """

    what: str
    target: str
    download: str
    licence: str
    layout: str
    first_file: str
    images: Mapping[str, str] = field(default_factory=dict)
    volumes: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    tables: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    text: str | None = None


_OMICS = ("rna", "methylation", "mirna", "copy_number", "protein", "oncosign", "cluster_of_clusters")

PUBLISHED: dict[str, Published] = {
    "breast-us": Published(
        what="200 breast ultrasound images with clinical columns and pathology (BrEaST)",
        target="malignant",
        images={"image": "image"},
        tables={"table": ()},
        download="Breast-Lesions-USG from The Cancer Imaging Archive, doi:10.7937/9WKK-Q141 (paper: "
        "doi:10.1038/s41597-024-02984-z)",
        licence="CC-BY-4.0: name the authors when you pass it on",
        layout="BrEaST-Lesions_USG-images_and_masks/case001.png and a workbook of 21 columns",
        first_file="images/case001.png",
    ),
    "hannover-cxr": Published(
        what="243 chest radiographs of 71 patients with laboratory values (Hannover Medical School)",
        target="icu_at_exam",
        images={"image": "image"},
        tables={
            "labs": ("crp", "po2", "pco2", "ldh", "lymphocytes", "neutrophils", "d_dimer", "factor_xii"),
            "table": ("sex", "days_since_admission"),
        },
        download="github.com/ml-workgroup/covid-19-image-repository, doi:10.6084/m9.figshare.12275009",
        licence="CC-BY-3.0: name the authors when you pass it on",
        layout="data.csv (28 columns) and png/<image_id>.png",
        first_file="images/fff13f3a.png",
    ),
    "covid-cxr": Published(
        what="201 chest radiographs of 115 patients with clinical notes (COVID-19 image data collection)",
        target="covid",
        images={"image": "image"},
        tables={"table": ("age", "sex", "offset_days", "view", "temperature", "spo2")},
        text="notes_blind",
        download="github.com/ieee8023/covid-chestxray-dataset, the images whose licence allows a copy; "
        "structure masks: github.com/GeneralBlockchain/covid-19-chest-xray-segmentations-dataset",
        licence="CC-BY-NC-SA-4.0 as a whole (each image has its own): no commercial use, changed copies "
        "under the same licence",
        layout="metadata.csv (29 columns), images/ and annotations/",
        first_file="images/ARDSSevere.png",
    ),
    "lgg-mri": Published(
        what="76 patients with lower-grade glioma, three MR sequences, age, sex and omics clusters (TCGA)",
        target="grade3",
        volumes={"flair": ("volume", "flair"), "pre": ("volume", "pre"), "post": ("volume", "post")},
        tables={"table": ("age", "sex", *(f"omics_{name}" for name in _OMICS))},
        download='"LGG MRI Segmentation" by M. Buda (doi:10.1016/j.compbiomed.2019.05.002), for example from '
        "github.com/TruongVanHien194276/Brain_Segmentation_data",
        licence="CC-BY-NC-SA-4.0: no commercial use, changed copies under the same licence",
        layout="kaggle_3m/TCGA_xx_xxxx_YYYYMMDD/*.tif and data.csv",
        first_file="volumes/TCGA_CS_4941.npz",
    ),
}


def how_to_get(name: str, searched: str, variable: str) -> str:
    """What to say when a published cohort is not found: six facts, in the order in which they are needed."""
    facts = PUBLISHED[name]
    return (
        f'The cohort "{name}" is not there: {facts.what}. It is not shipped with mmmed and nothing is '
        f"downloaded.\n"
        f"  searched: {searched}; pass root= or set the environment variable {variable} to the folder above "
        f"it\n"
        f"  download: {facts.download}\n"
        f"  licence:  {facts.licence}\n"
        f"  place:    <root>/{name}/ with metadata.csv, schema.json (a role for each column) and "
        f"{facts.first_file}\n"
        f"  note:     the original layout ({facts.layout}) is not read; bring it into this form first"
    )
