"""A page on which one draws and watches the layers answer."""
