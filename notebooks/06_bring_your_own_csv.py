# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Bring your own CSV
#
# **One question: what lies between a spreadsheet full of holes and a model that I may show to a colleague?**
#
# You will open a table as it comes from a ward, read four error messages and mend what they name, find a leak and a patient
# who is in there twice, train, score, stress and explain a model, save it, and do the same through scikit-learn's verbs and
# from a shell. Replace the folder by yours and run the lecture again.
#
# Lecture 6 of 0 to 7: what the lectures before did on prepared patients, on yours.
#
# Needed: `pip install "mmmed[notebooks,imaging]"`, under a minute on one core, no network.
# Research use only; nothing here is a medical device.

# %% [markdown]
# ## A folder as it comes
#
# Four hundred patients in `clinic.csv`, and a folder of pictures. The next five cells make it up from the synthetic cohort;
# with data of your own you start at "First contact". Patient numbers begin with zeros, what was not measured is spelled in
# three ways, one value has its unit in the cell, one patient was registered twice, one path is dead, one picture is a DICOM.

# %%
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
import pandas as pd
import torch

import mmmed

torch.set_num_threads(1)  # models this small gain nothing from a second one

# %%
folder = Path(mkdtemp())
made = mmmed.load_cohort("synthetic", patients=400, seed=5)
values = ["age", "sex", "ldh", "albumin", "haemoglobin"]
table = pd.DataFrame({name: made.column(name) for name in [*values, "note", "diagnosis"]}, dtype=object)
chance = np.random.default_rng(0)
table.insert(0, "patient", [f"{number:05d}" for number in chance.permutation(20_000)[:400]])
sick = table["diagnosis"] == "1"
table["diagnosis"] = np.where(sick, "yes", "no")
table["next_ward"] = np.where(chance.random(400) < 0.05, "surgery", np.where(sick, "oncology", "home"))

# %%
for name in values:
    lost = chance.random(400) < 0.15
    table.loc[lost, name] = chance.choice(["", "n/a", "-"], lost.sum())
table.loc[chance.random(400) < 0.3, "note"] = ""
taken = chance.random(400) < 0.7
table["picture"] = np.where(taken, "pictures/" + table["patient"] + ".png", "")
table.loc[11, "ldh"] = "243 U/l"
table.loc[20, "picture"] = "pictures/lost.png"
table = pd.concat([table, table.iloc[[9]].assign(patient="70007")])

# %%
from PIL import Image

(folder / "pictures").mkdir()
for record, number in zip(made, table["patient"], strict=False):
    Image.fromarray(record.inputs["image"]).save(folder / f"pictures/{number}.png")


# %%
tags = {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7", "SOPInstanceUID": "1.2.3", "PixelSpacing": [0.8, 0.8]}
tags |= {"SamplesPerPixel": 1, "PixelRepresentation": 0, "PhotometricInterpretation": "MONOCHROME2"}
tags |= {"BitsAllocated": 16, "BitsStored": 16, "HighBit": 15, "Rows": 64, "Columns": 64}


# %%
def write_dicom(pixels, file):
    from pydicom import Dataset, dataset, dcmwrite, uid

    picture = Dataset()
    picture.file_meta = dataset.FileMetaDataset()
    picture.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    for name, value in {**tags, "PixelData": pixels.astype("uint16").tobytes()}.items():
        setattr(picture, name, value)
    dcmwrite(file, picture, enforce_file_format=True)


# %%
write_dicom(made[12].inputs["image"], folder / "pictures/export.dcm")
table.iloc[12, table.columns.get_loc("picture")] = "pictures/export.dcm"
table.to_csv(folder / "clinic.csv", index=False)
pd.read_csv(folder / "clinic.csv", dtype=str, keep_default_na=False).iloc[9:14, [0, *range(1, 6), 7, 8, 9]]

# %% [markdown]
# ## First contact, and four error messages
#
# Say which columns are what. Each mistake below is answered by one sentence that names the row, the column and the cure.

# %%
from textwrap import fill

asked = ["age", "albumine", "sex", "ldh", "haemoglobin", "next_ward"]
columns = {"image": "picture", "tabular": asked, "text": "note", "target": "diagnosis", "group": "patient"}


# %%
def attempt(**options):
    try:
        return mmmed.Cohort.from_csv(folder / "clinic.csv", **columns, **options)
    except ValueError as error:
        print(fill(str(error).replace(str(folder), "the folder"), 110))


# %%
attempt()

# %% [markdown]
# "n/a" may be an answer (a grade, a blood group), so it is never guessed to mean *missing*. You say which spellings do:

# %%
spellings = ["", "n/a", "-"]
attempt(missing=spellings)

# %% [markdown]
# A column that I misspelt.

# %%
columns["tabular"] = [*values, "next_ward"]
attempt(missing=spellings)

# %% [markdown]
# A unit inside a cell: a number to a person, a word to a computer. Read as a category it would teach nothing, so the table
# has to be mended; here by hand.

# %%
table.iloc[11, table.columns.get_loc("ldh")] = "243"
table.to_csv(folder / "clinic.csv", index=False)
attempt(missing=spellings)

# %% [markdown]
# A dead path. The picture is lost for good, so I let it count as not recorded. Nothing is put in its place.

# %%
cohort = attempt(missing=spellings, missing_files="absent")
cohort

# %% [markdown]
# ## Read what was inferred
#
# Above: which column became what, and how often each combination of modalities occurs. "00042" stayed a number of a patient
# and did not become 42, and the DICOM is a picture like the others. What a table cannot say are the units; the schema is
# yours to edit, and is saved with the model.

# %%
from dataclasses import replace

units = {"age": "years", "ldh": "U/l", "albumin": "g/l", "haemoglobin": "g/l"}
labs = cohort.schema.modalities["table"]
cells = [replace(cell, unit=units[cell.name]) if cell.name in units else cell for cell in labs.cells]
cohort = cohort.with_schema(cohort.schema.with_modality("table", replace(labs, cells=tuple(cells))))
print(cohort.schema)

# %% [markdown]
# ## Audit before training

# %%
audit = mmmed.audit(cohort)
for finding in audit.findings:
    print(finding)

# %% [markdown]
# Two findings that no test score would show, for it would be excellent. `next_ward` was written *after* the diagnosis: a
# leak. And two patients agree in every cell: one was registered twice, and with bad luck sits in training and test. The leak
# gets a role that can never become an input; the copy goes. Splits and scales are then learned anew.

# %%
columns["tabular"] = [cell for cell in cells if cell.name != "next_ward"]
cohort = attempt(missing=spellings, missing_files="absent", roles={"next_ward": "leak"})
cohort = cohort.where(cohort.groups != "70007").split()
mmmed.audit(cohort).findings or "nothing found"

# %% [markdown]
# ## Train, and compare with what is plain
#
# One model for whatever subset of picture, table and note a patient has. Beside it everything that is simpler: one modality
# alone, black pictures, a logistic regression, presence alone. Without the leak the task is a hard one.

# %%
from mmmed.evaluation import compare_with_baselines
from mmmed.training import Augmentation

model = mmmed.create_model(cohort.schema, fusion="multimodn")
mirrored = Augmentation(flip=True)  # this diagnosis does not depend on the side
run = mmmed.finetune(model, cohort, epochs=30, augmentation=mirrored, output=folder / "run", progress=False)
scores = compare_with_baselines(model, cohort["train"], cohort["test"], "diagnosis", draws=300)
scores.to_frame()[["inputs", "n", "auroc", "auroc_low", "auroc_high", "brier"]].round(3)

# %% [markdown]
# Sixty test patients, and intervals a quarter of the scale wide. The model stands above the logistic regression by less than
# that, the picture alone is hardly better than a coin after 280 patients, and black pictures cost nothing since it says so
# little. That is the result. Five patient folds (`cohort.folds(5)`) would use all 400 for testing.
#
# ## What if something is missing?
#
# The same test patients, with every subset of their modalities. Further down: *mcar 30 %* hides three of ten modalities
# completely at random, *by value age* hides the table from the older, *by label* hides a modality from the sick more often than
# from the healthy, *flipped* the other way round.

# %%
benchmark = mmmed.missingness_benchmark(model, cohort["test"], draws=300)
benchmark.plot()

# %% [markdown]
# ## One patient
#
# The card of a test patient of whom there is nothing but the table: the way from "nothing known" to the answer, what was used,
# what was not there, and how sure the scale is.

# %%
only_table = cohort["test"].present == [name == "table" for name in cohort.schema.modalities]
patient = cohort["test"].where(only_table.all(axis=1))[0]
prediction = mmmed.predict(model, patient)
prediction

# %% [markdown]
# Which should come next, the picture or the note? Those of similar training patients are lent to this one:

# %%
from mmmed.explain import value_of_information

worth = value_of_information(model, patient, cohort["train"])
print(worth)
worth.plot()

# %% [markdown]
# ## Saved and loaded
#
# Weights as safetensors, the rest as JSON and text: no pickle, so that opening a stranger's model runs none of his code.
# `README.md` is a model card, filled in.

# %%
saved = folder / "run" / "model"
again = mmmed.load_model(saved)
print(*sorted(path.name for path in saved.iterdir()), sep="\n")
print("same answer:", mmmed.predict(again, patient).to_dict() == prediction.to_dict())

# %% [markdown]
# ## The scikit-learn way
#
# A data frame in, a frame of probabilities out. Which column is what is guessed from the cells, printed with `verbose=True`,
# and corrected by `columns=`. Here the frame is read from the same file, without the leak and the copy.

# %%
from mmmed import MultimodalClassifier

frame = pd.read_csv(folder / "clinic.csv", dtype={"patient": str}, na_values=["n/a", "-"])
frame = frame[frame["patient"] != "70007"].drop(columns="next_ward")
frame.loc[frame["picture"] == "pictures/lost.png", "picture"] = None
classifier = MultimodalClassifier("diagnosis", group="patient", root=str(folder), epochs=3, verbose=False)
classifier.fit(frame[:340])
classifier.predict_proba(frame[340:]).head(3).round(3)

# %%
classifier.evaluate(frame[340:])

# %% [markdown]
# Three epochs, to show the call. `classifier.explain(row)` gives the card, `classifier.model_` the model.
#
# ## From a shell
#
# The verbs are commands too; `--json` makes them readable for other programs. The next cells call them as a shell would.

# %%
import os
import subprocess
import sys

plain = {**os.environ, "FORCE_COLOR": ""}  # a notebook asks for colours, text does not need them


# %%
def shell(line):
    print("$ mmmed", line)
    call = [sys.executable, "-m", "mmmed", *line.split()]
    done = subprocess.run(call, capture_output=True, text=True, cwd=folder, env=plain, check=False)
    print(fill(done.stderr, 110) or done.stdout)


# %%
import json

row = {"age": 71, "sex": "male", "ldh": 310, "note": "Weight loss. Smoker."}
(folder / "patient.json").write_text(json.dumps(row))
shell("predict run/model patient.json")

# %% [markdown]
# What the row does not hold is missing, and said to be. A wrong path ends in a sentence, too:

# %%
shell("predict run/modell patient.json")

# %% [markdown]
# Audit and training are the same lines, for example
#
# ```sh
# mmmed audit clinic.csv --image picture --tabular age --tabular ldh --target diagnosis --group patient --json
# mmmed finetune clinic.csv --image picture --tabular age --tabular ldh --target diagnosis --group patient -o runs/first
# mmmed evaluate runs/first/model clinic.csv --stress
# ```
#
# ## When something goes wrong
#
# | you see | do |
# |---|---|
# | "a number was expected, got ..." | mend the cell, name the spelling in `missing=`, or declare the column as `Category` |
# | "... paths lead to no file" | `root=` where the paths start, or `missing_files="absent"` |
# | "no picture that can be read" | copy the file again, or `unreadable="absent"` |
# | the audit says *leak* | ask when the column was written; `roles={column: "leak"}` |
# | the audit says *presence* | read [the flip](02_the_flip.ipynb) before you believe any score |
# | validation AUROC near 1 | look for the leak before you are glad |
# | all lines of the comparison agree | more patients, not another model |
#
# ## Limits
#
# - The patients are made up; on the way nothing was learned about any disease, and 60 test patients tell no two models apart.
# - The audit finds copies that agree in every cell, near-copies of pictures, and single columns that know too much. A leak
#   that needs two columns, and a patient whose copy was typed anew, it does not find.
# - "Missing" was at random here. On a ward it hardly ever is.
# - Units are written down, not converted: a column in which half of the values are mg/dl and half mmol/l is read as one.
#
# Next: [to the cluster](07_to_the_cluster.ipynb), the same code on many processes, and more data than memory.
