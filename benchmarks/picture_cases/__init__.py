"""Pictures to measure with: digits drawn and photographed, and pictures that are no digits; each from a fixed seed."""
