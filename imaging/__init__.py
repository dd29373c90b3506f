"""Pixels without TensorFlow or Beam: image files, object masks, resizing (NumPy, OpenCV, Pillow)."""
