"""Masks to judgement: scores with intervals, tables, pictures."""
