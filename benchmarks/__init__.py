"""The proxy and its peers side by side on one machine: `python -m benchmarks` (see README.md here)."""
