"""The fit loop: policies for missing modalities, fine-tuning, checkpoints."""
