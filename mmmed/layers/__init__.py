"""Tensor blocks that encoders and fusions are built from."""
