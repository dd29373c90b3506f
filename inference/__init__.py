"""A trained run plus images: probabilities, then masks."""
