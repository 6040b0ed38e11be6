"""Measurements, each against a named peer or a stated bar. `make bench` runs them all, `python -m benchmarks NAME` one."""
