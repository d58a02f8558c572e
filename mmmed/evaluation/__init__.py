"""Scores with intervals by patient, audits before training, and benchmarks of what is missing."""
