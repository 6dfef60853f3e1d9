"""Timings of the stages against the least that they could take."""
