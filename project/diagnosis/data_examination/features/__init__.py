"""How pictures become numbers that an examination compares."""
