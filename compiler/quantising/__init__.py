"""A net in int8: static quantisation, written into the graph as QuantizeLinear and
DequantizeLinear.

``quantise.py`` has the call; ``examples.py`` reads the images that calibrate and those that measure
the accuracy, ``folding.py`` makes batch normalisations part of convs, ``ranges.py`` measures the
ranges of layers, and ``graph.py`` writes them into the graph.
"""
