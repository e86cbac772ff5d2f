"""From annotations to a data folder: labels, image files, boxes and splits."""
