"""The network and what trains it, as plain torch: it knows nothing of Lightning, data or settings files.

The modules with a table, and this one, import no torch: the command line checks settings before torch is loaded.
"""
