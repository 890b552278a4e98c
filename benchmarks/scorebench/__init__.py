"""What `benchmarks/scoring.py` measures, a section a module."""
