"""A research template for multilayer perceptrons on PyTorch Lightning."""

__version__ = "0.1.0"
