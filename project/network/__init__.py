"""The network and what trains it, as plain torch: it knows nothing of Lightning, data or settings files."""
