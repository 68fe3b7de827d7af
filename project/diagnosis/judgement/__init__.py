"""From numbers to findings, remedies and a verdict."""
