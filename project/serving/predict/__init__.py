"""Picture files answered by a trained network."""
