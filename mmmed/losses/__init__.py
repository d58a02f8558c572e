"""Scalars to minimise."""
