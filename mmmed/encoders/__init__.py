"""One modality each, from the tensors of a batch to `Tokens`."""
