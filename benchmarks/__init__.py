"""Measurements that a user can repeat; each compares in one run on one machine."""
