"""A study's runs, one after the other and side by side."""
