"""The runtime: runs a bundle on images. It needs numpy and one engine, never the compiler."""
