"""The only room that joins stages: one data set (contribute), a whole study (study), the demonstration (demo)."""
