"""Models: components that know arrays and cards, never splits or files of an atlas. Nothing heavy is imported here."""
