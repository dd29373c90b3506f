"""Predictions that another tool made, beside the truth of records. Nothing here imports TensorFlow."""
