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
# # The first patient
#
# **One question: what does a model know about a patient when part of the record is missing?**
#
# You will load a cohort full of holes, audit it, train one model on image, table and text, hide each modality in
# turn, and read one patient's prediction step by step. The patients are synthetic, so the best score that any model
# could reach is known exactly. At the end the same lines run on real ultrasound patients, if their folder is there.
#
# Lecture 1 of 0 to 7. [Lecture 0](00_four_ways_a_missing_image_goes_wrong.ipynb) shows what goes wrong elsewhere; this is the
# whole way from a cohort to a saved model, and the words used in the others.
#
# Needed: `pip install "mmmed[notebooks]"`, about a minute on two cores, no network.
# Research use only; nothing here is a medical device.

# %%
import mmmed
from mmmed.data.missingness import mcar

cohort = mmmed.load_cohort("synthetic", patients=600, seed=0)
cohort = cohort.keep(mcar(cohort, share=0.3))
cohort

# %% [markdown]
# Three of ten modalities are missing at random. A record simply lacks them: no zeros, no black picture.

# %%
test = cohort["test"]
patient = test.where(test.present.all(axis=1))[0]  # the first one of whom everything is there
patient

# %% [markdown]
# ## Before training: the audit
#
# Could a model cheat? The audit looks for patients in two splits, near-duplicate pictures, columns that give the
# answer away, and whether *what is missing* already predicts the label.

# %%
audit = mmmed.audit(cohort)
audit

# %% [markdown]
# ## One model for every subset
#
# Each present modality is encoded and rewrites a state in turn (MultiModN); an absent one is skipped for that patient
# alone. In training, modalities are hidden at random and patients are weighted so that presence cannot be read as a
# symptom. What validation patients say at the end calibrates the probabilities.

# %%
from mmmed.training import Augmentation

model = mmmed.create_model(cohort.schema, fusion="multimodn")
mirrored = Augmentation(flip=True)  # this diagnosis does not depend on the side
run = mmmed.finetune(model, cohort, epochs=30, augmentation=mirrored, progress=False)
run

# %% [markdown]
# ## What each subset of modalities is worth
#
# The test patients, with every subset of their modalities. Diamonds: the exact posterior on the same patients, which
# nobody can beat except by luck. Intervals are wide: this is a test set of about ninety patients. AUROC: how often a sick
# patient gets a higher risk than a healthy one; .5 is a coin. *mcar 30 %*: three of ten modalities hidden completely at random;
# *by label*: hidden from the sick more often than from the healthy, *flipped* the other way round.

# %%
benchmark = mmmed.missingness_benchmark(model, test, draws=500)
benchmark.plot()
# %%
benchmark

# %% [markdown]
# ## One patient, step by step
#
# Step 0 is "nothing known": what the model expects of anybody. Each modality then moves the probability. The
# contributions are exact Shapley values: they do not depend on the order, and add up to the whole way.

# %%
prediction = mmmed.predict(model, patient)
prediction

# %% [markdown]
# Take the picture away. The model does not guess one; it says that it is missing, and the interval tells the rest.

# %%
mmmed.predict(model, patient.without("image"))

# %% [markdown]
# ## Saved and loaded
#
# Weights as safetensors, everything else as JSON; the loaded model gives bit-equal answers.

# %%
from pathlib import Path
from tempfile import mkdtemp

folder = Path(mkdtemp()) / "model"
model.save_pretrained(folder)
again = mmmed.load_model(folder)
mmmed.predict(again, patient).to_dict() == mmmed.predict(model, patient).to_dict()

# %% [markdown]
# ## Real patients: breast ultrasound
#
# 200 women, one B-mode picture each, 13 clinical columns of which 15 to 39 % are missing. The data are not shipped
# with mmmed (CC BY 4.0); set `MMMED_DATA` to the folder that holds `breast-us`.

# %%
try:
    real = mmmed.load_cohort("breast-us")
except ValueError as how_to_get_it:
    real = None
    print(how_to_get_it)
real

# %% [markdown]
# The same lines. The audit is longer here: whether the signs were recorded already says something about the answer.

# %%
if real is not None:
    real_model = mmmed.create_model(real.schema)
    real_run = mmmed.finetune(real_model, real, epochs=20, progress=False)
    print(mmmed.audit(real))

# %%
real and mmmed.missingness_benchmark(real_model, real["test"], draws=500)

# %% [markdown]
# Forty test patients: the intervals span half of what an AUROC can be. Nothing is claimed from them; the five-fold
# figures with a pretrained encoder are in `tests/benchmarks/README.md`.

# %%
real and mmmed.predict(real_model, real["test"][0])

# %% [markdown]
# ## Limits
#
# - The ceiling assumes that every factor can be read off its modality without error. A small network that has seen a
#   few hundred pictures cannot, and this is what separates the points from the diamonds.
# - Intervals re-draw patients; they do not cover another hospital, another device, or a changed reason for missingness.
# - Hidden at random is the easy case. When the *reason* for missing goes with the label and then changes, an undefended
#   model fails; the default here is defended, and `missingness="use"` gives the defence up knowingly.
#
# Next: [the flip](02_the_flip.ipynb): the reason for missing goes with the label, and then changes.
