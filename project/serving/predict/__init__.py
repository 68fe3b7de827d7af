"""Picture files answered by a trained network."""

from typing import Literal

# named here, where nothing else is loaded: the command line reads them before torch is there
Polarity = Literal["auto", "as_is", "invert"]
"""What happens to gray levels: auto inverts a picture whose corners are light, as_is inverts none, invert all."""
OutputFormat = Literal["table", "json", "csv"]
