"""Engines measure paths for real: the naive one is the oracle, the shared one is for use."""
