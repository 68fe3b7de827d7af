"""The LightningModule and what happens during training."""
