"""Training: a run is prepared, then fitted, one optimiser step after the other.

May import: common, config, runtime, data, scoring, experiment, models.
"""
