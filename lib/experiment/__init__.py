"""An experiment folder: its files, and the network that its configuration describes.

May import: common, config, runtime, data, models.
"""
