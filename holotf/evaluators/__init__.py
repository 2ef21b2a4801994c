"""Evaluators: one question a file."""
