"""The network and what trains it, in plain torch: nothing here uses Lightning, data or settings files.

The modules with a table, and this one, import no torch: the command line checks settings before torch is loaded.
"""
