"""Batches to logits: the U-Net, augmentation on the accelerator, losses, metrics, precision. Knows no TFRecords."""
