"""A search for settings: trials of train.py, one after the other."""
