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
# # The flip
#
# **One question: a model is trained where the sick lose a part of their record. What is left of it where the healthy
# lose it instead?**
#
# You will make records go missing *because of* the label, watch two undefended models shine and then fall below a coin,
# see what they had learned, and cure both with a training rule rather than an architecture. The data are 442 real
# diabetes patients that come inside scikit-learn.
#
# Lecture 2 of 0 to 7. In [lecture 1](01_first_patient.ipynb) modalities were missing at random, the easy case. This is the hard
# one.
#
# Needed: `pip install "mmmed[notebooks]"`, about a minute on two cores, no network.
# Research use only; nothing here is a medical device.

# %%
import mmmed
from mmmed.data.missingness import Mechanism
from mmmed.training import Policy

cohort = mmmed.load_cohort("diabetes")
cohort

# %% [markdown]
# ## A habit of the ward
#
# Patients whose disease will progress lose their vital signs four times out of five; the others never do. Such habits are
# common: who is referred, who is too ill for the scan, who is sent home early.

# %%
habit = {"task": "progression", "modality": "vitals", "positive": 0.8, "negative": 0.0}
same = Mechanism("mnar_by_label", habit)
complete = Mechanism("natural")
flipped = Mechanism("mnar_by_label", {**habit, "flipped": True})
ward = cohort.keep(same.apply(cohort))

# %% [markdown]
# The audit sees it before any training: *which* modalities are there predicts the label, without reading a value.

# %%
mmmed.audit(ward).warnings[0]

# %% [markdown]
# ## Five ways to train
#
# The gated MultiModN with a skip per patient, and concatenation with the mean in the place of what is missing. Undefended
# means that they learn from the records as they are. *Dropout* hides further modalities at random in training (the
# recipe of 3MT). The *policy* adds weights P(y) P(m) / P(y, m), so that the pattern m of what is there says nothing
# about the label y. Logistic regression with mean imputation stands beside them.

# %%
bare, dropout = Policy(dropout=0.0, reweight=False), Policy(reweight=False)
quick = {"epochs": 40, "augmentation": None, "optimisation": {"lr": 2e-3, "weight_decay": 0.1}}
recipes = {
    "concat, undefended": {"fusion": "concat", "policy": bare, **quick},
    "multimodn, undefended": {"fusion": "multimodn", "policy": bare, **quick},
    "multimodn, dropout only": {"fusion": "multimodn", "policy": dropout, **quick},
    "multimodn, whole policy": {"fusion": "multimodn", **quick},
    "logistic regression": {"fusion": "logistic_regression", "policy": bare},
}

# %% [markdown]
# Each is trained in five patient folds under the habit, and asked three times: with the same habit, with complete
# records, and with the habit flipped. The patients and the masks are the same for all; the folds of one way of training
# are trained at once.

# %%
tests = {"same habit": same, "complete": complete, "flipped": flipped}
study = mmmed.missingness_study(recipes, cohort, train={"habit": same}, test=tests, progress=False)
study.plot()

# %%
study.side_by_side()

# %% [markdown]
# Read the last column. With the habit unchanged the undefended models look best, far better than the data allow with
# complete records. Flipped, both lie far below .5: they call the sick healthy. **Skipping per patient does not help**, and
# modality dropout alone goes about a third of the way back. With the weights as well, the same network hardly notices.

# %%
study.differences(to="multimodn, undefended").where(tested_on="flipped")

# %% [markdown]
# And beside the plain model? On 442 patients whose answer is nearly a weighted sum, logistic regression with mean imputation
# is better than the defended network, flipped or complete. It reads a filled gap as "average", so it could not learn the
# habit to begin with, and it has a dozen weights where the network has 113,000 for 265 training patients. The policy makes
# a network *honest*; it does not make a small table large.

# %%
study.differences(to="multimodn, whole policy").where(recipe="logistic regression")

# %% [markdown]
# ## What had it learned?
#
# One model of each kind. Take the vital signs away from *every* test patient: a missing measurement is no news about a
# patient, so the mean risk should stay where it is.

# %%
import numpy as np

test = cohort["test"]
learning = np.where((cohort.splits != "test")[:, None], same.apply(cohort), np.array(cohort.present))
trained = {}
for name, policy in {"undefended": bare, "whole policy": Policy()}.items():
    holed = cohort.keep(learning)
    trained[name] = mmmed.create_model(holed.schema)
    mmmed.finetune(trained[name], holed, policy=policy, epochs=40, augmentation=None, progress=False)

# %%
from mmmed.models import predict_proba

for name, model in trained.items():
    with_them = predict_proba(model, test)["progression"].mean()
    without = predict_proba(model, test.without("vitals"))["progression"].mean()
    print(f"{name:<14} mean risk with vital signs {with_them:.2f}, without {without:.2f}")

# %% [markdown]
# The undefended model had learned one sentence: *who has no vital signs is sick*. The step of one patient shows it too.

# %%
patient = test[0]
for name, model in trained.items():
    print(name, mmmed.predict(model, patient.without("vitals")), sep="\n")

# %% [markdown]
# ## Why the published resistance was believed
#
# MultiModN (Swamy et al. 2023, arXiv:2309.14118) is described as skipping what a patient lacks, and reported as resistant
# to such gaps. The released code (github.com/EPFLiGHT/MultiModN) skips a modality for the *whole batch* as soon as one row
# of it has a gap. In batches of 16 from a ward like this one hardly any batch is complete, so the blanked modality is
# hardly ever used, and a model that does not use a modality cannot be misled by it. A skip per patient, as the text of the
# paper says and as this package does, is misled like any parallel fusion. What resists is the training rule.
#
# ## The same with more data and with pictures
#
# Printed by `tests/benchmarks/bench_flip.py diabetes --families` and `bench_flip.py digits breast-cancer` (five folds, two
# seeds, mean AUROC with 95 % interval over patients):
#
# | | diabetes: same | complete | flipped | digits: complete | flipped | breast cancer: complete | flipped |
# |---|---|---|---|---|---|---|---|
# | concat, undefended | .939 [.919, .957] | .773 [.734, .811] | .259 [.215, .302] | .993 | .952 [.943, .960] | .988 | .969 [.953, .981] |
# | multimodn, undefended | .955 [.939, .970] | .798 [.761, .836] | .185 [.141, .227] | .991 | .777 [.758, .797] | .990 | .877 [.845, .903] |
# | multimodn, dropout only | .929 [.906, .950] | .793 [.751, .832] | .412 [.362, .460] | .996 | .984 [.979, .989] | .990 | .961 [.941, .977] |
# | multimodn | .814 [.776, .854] | .808 [.766, .845] | .770 [.727, .811] | .996 | .994 [.991, .996] | .991 | .974 [.956, .987] |
# | concat | .807 [.767, .845] | .809 [.767, .845] | .784 [.741, .825] | .994 | .992 [.989, .995] | .988 | .982 [.966, .994] |
# | cascade, undefended | .960 [.945, .974] | .795 [.753, .833] | .164 [.119, .207] |  |  |  |  |
# | perceiver, undefended | .956 [.939, .972] | .811 [.773, .846] | .165 [.121, .208] |  |  |  |  |
# | lstm, undefended | .949 [.931, .965] | .789 [.751, .827] | .227 [.183, .270] |  |  |  |  |
# | late, undefended | .900 [.873, .926] | .809 [.768, .844] | .572 [.516, .621] |  |  |  |  |
# | gated_attention, undefended | .953 [.935, .969] | .790 [.751, .828] | .171 [.128, .212] |  |  |  |  |
# | token_transformer, undefended | .946 [.928, .964] | .776 [.737, .814] | .220 [.176, .262] |  |  |  |  |
# | moe, undefended | .944 [.925, .962] | .776 [.737, .814] | .196 [.155, .237] |  |  |  |  |
# | cascade | .809 [.769, .848] | .812 [.771, .850] | .771 [.729, .811] |  |  |  |  |
# | perceiver | .804 [.764, .844] | .797 [.755, .835] | .768 [.725, .809] |  |  |  |  |
# | lstm | .798 [.758, .839] | .803 [.763, .841] | .775 [.730, .816] |  |  |  |  |
# | late | .810 [.769, .850] | .807 [.767, .843] | .771 [.728, .813] |  |  |  |  |
# | gated_attention | .803 [.764, .842] | .794 [.753, .834] | .755 [.710, .798] |  |  |  |  |
# | token_transformer | .788 [.747, .829] | .789 [.748, .826] | .760 [.715, .803] |  |  |  |  |
# | moe | .801 [.762, .839] | .793 [.751, .830] | .753 [.709, .794] |  |  |  |  |
# | logistic regression, undefended | .807 [.764, .847] | .831 [.791, .866] | .833 [.794, .868] | .943 | .939 [.929, .949] | .993 | .993 [.987, .997] |
# | logistic regression | .819 [.778, .857] | .833 [.794, .867] | .823 [.781, .859] | .944 | .933 [.922, .945] | .995 | .995 [.988, .999] |
# | gradient boosting, undefended | .950 [.932, .966] | .780 [.740, .819] | .152 [.107, .193] | .982 | .213 [.188, .238] | .986 | .628 [.586, .675] |
# | gradient boosting | .804 [.768, .841] | .776 [.735, .815] | .710 [.663, .752] | .990 | .985 [.981, .990] | .989 | .972 [.956, .984] |
#
# And with an image encoder on 2,000 synthetic patients of whom the sick lose their *picture*, by
# `tests/benchmarks/bench_flip_image.py`; the first line is the exact best that a model blind to the pattern could reach:
#
# | 2,000 training and 2,000 test patients | same | complete | flipped | flipped / complete |
# |---|---|---|---|---|
# | best possible, pattern ignored | .916 | .941 | .904 | |
# | multimodn, undefended | .948 [.937, .958] | .775 [.755, .796] | .165 [.147, .184] | .21 |
# | multimodn, whole policy | .797 [.777, .814] | .806 [.788, .825] | .800 [.781, .818] | .99 |
# | concat, undefended | .941 [.929, .952] | .735 [.712, .754] | .180 [.162, .199] | .24 |
# | concat, whole policy | .790 [.770, .809] | .797 [.777, .816] | .793 [.773, .813] | 1.00 |
#
# ## The price, and when not to pay it
#
# Weights leave a smaller effective sample, and where the habit will *stay*, the undefended model is simply better: its
# first column is real. That is a decision about the world, not about the network:
# `Policy(missingness="use")` says that the pattern may be read as a symptom. The default says that it may not.

# %%
run = mmmed.finetune(mmmed.create_model(ward.schema), ward, epochs=1, augmentation=None, progress=False)
run.effective_sample_size, run.records

# %% [markdown]
# ## Limits
#
# - The weights are exact when the label drives what is recorded. They do not cure gaps that depend on the unseen value
#   itself, and without modality dropout they cannot work: a cell (label, pattern) that never occurs cannot be weighed up.
# - Gradient boosting that takes gaps as they are is only partly cured; logistic regression with mean imputation hardly
#   needs it. On small tables, try the plain model first.
# - 442 patients: intervals of ± .04. The flip is ten times that; the differences among defended models are not.
#
# Next: [fusion families](03_fusion_families.ipynb): nine ways to put modalities together.
