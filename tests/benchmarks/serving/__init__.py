"""What it costs to ask a model over HTTP: ``python -m tests.benchmarks.serving FOLDER --json FILE``."""
