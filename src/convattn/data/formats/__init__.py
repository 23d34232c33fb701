"""Readers of data on disk, one file for each format: what the files say, unchecked."""
