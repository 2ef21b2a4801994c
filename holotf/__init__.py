"""holotf: 3D-aware image generators from unlabelled photographs, in TensorFlow.

Importing this package loads nothing heavy; its modules import TensorFlow themselves.
"""

__version__ = "0.2.0"
