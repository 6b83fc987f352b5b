"""Measuring nets that label pixels: mean IoU on pictures with masks."""
