"""Using a trained model: evaluation, tags, heatmaps and the local page.

May import: common, runtime, data, scoring, experiment, predictor, export, models.
"""
