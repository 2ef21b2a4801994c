"""A server over an export: TensorFlow Serving's REST API, and pictures for browsers. docs/serving.md describes it.

Needs the SavedModel and its card alone; nothing here imports what trains.
"""
