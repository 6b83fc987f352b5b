"""Bundles: written from nets, engines and protocols, and read back."""
