"""Bring the cells and counts of one data set into the names and types that every later stage reads."""
