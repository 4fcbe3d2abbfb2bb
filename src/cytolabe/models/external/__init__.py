"""A model in another process or environment, joined by files (docs/formats/external.md)."""
