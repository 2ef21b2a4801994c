"""Maths with weights: one layer, or one operation, a file."""
