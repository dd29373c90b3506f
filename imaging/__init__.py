"""Pixels without TensorFlow or Beam: image files, CT volumes, run-length code, objects, resizing, intensity, tiling."""
