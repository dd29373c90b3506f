"""Evaluations side by side: which run is better, and how sure is that?"""
