"""Encoders, fusion and heads put together: built, asked, saved and loaded."""
