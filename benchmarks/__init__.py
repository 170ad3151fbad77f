"""Measurements and comparisons: `python -m benchmarks.NAME`, from the folder of the repository."""
