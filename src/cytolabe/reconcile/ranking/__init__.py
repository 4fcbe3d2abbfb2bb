"""The engine that orders candidate terms: similarities, memory, features, a learned order and its calibration."""
