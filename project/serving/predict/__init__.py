"""Picture files answered by a trained network."""

from typing import Literal

# named here, where nothing else is loaded: the command line reads them before torch is there
Polarity = Literal["auto", "as_is", "invert"]
"""What happens to gray levels: auto inverts a picture whose corners are light, as_is inverts none, invert all."""
Preparation = Literal["auto", "always", "never"]
"""Which pictures are prepared as MNIST's digits were: auto prepares those that do not have the network's size."""
OutputFormat = Literal["table", "json", "csv"]
