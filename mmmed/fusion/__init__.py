"""Tokens of whatever modalities are there -> one state per record, and the way to it."""
