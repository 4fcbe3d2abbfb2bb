"""Read what a lab delivered: find the files, refuse hostile ones, prove the raw counts, say which column means what."""
