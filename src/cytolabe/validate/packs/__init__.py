"""What is checked, at which threshold, and what the contributor is told.

A pack is never edited after a release: another version is another file.
"""
