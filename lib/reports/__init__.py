"""Reports and comparisons of evaluated experiments, from their stored results.

May import: common, config, data, scoring, inference.
"""
