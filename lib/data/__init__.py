"""From a data folder and its image files to batches.

May import: common, runtime, models.
"""
