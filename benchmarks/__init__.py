"""Speed, side by side: `python -m benchmarks blocks --help`."""
