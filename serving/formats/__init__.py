"""A trained run in the formats of other programs, each compared with the Keras model."""
