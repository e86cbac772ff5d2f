"""Scores, thresholds and localisation, as functions of arrays.

May import: common, data.
"""
