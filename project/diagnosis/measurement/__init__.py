"""What is measured of a network, of its training and of its data, as plain numbers."""
