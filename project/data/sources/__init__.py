"""Where data come from, and how they are checked."""
