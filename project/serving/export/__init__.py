"""Trained networks as files for other programs."""

from typing import Literal

# named here, where nothing else is loaded: the command line reads them before torch is there
FormatName = Literal["onnx", "torch_export", "safetensors"]
PrecisionName = Literal["float32", "float64"]
