"""Texts per second of a model that others trained, all-MiniLM-L6-v2: llmos beside transformers and plain onnxruntime.

``python -m tests.benchmarks.encoders`` prepares and compares.  `hugging` runs in the environment of the peer
transformers, where llmos is not: it imports the standard library and that peer's own packages only.
"""
