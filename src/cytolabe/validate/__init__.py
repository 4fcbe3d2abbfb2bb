"""Check one data set against a versioned pack of rules; every check runs, and all findings come at once."""
