"""What is measured inside a network, what theory expects, and what follows from the two."""
