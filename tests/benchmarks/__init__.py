"""Benchmarks: run by hand or by ``tox``; they report, and never fail for being slow."""
