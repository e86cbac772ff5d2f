"""A trained model in other forms: the published one, ONNX, PyTorch's exported program.

May import: common, config, data, experiment, predictor, models.
"""
