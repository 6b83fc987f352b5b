"""What a bundle takes and returns, and what it contains. Nothing is loaded to run.

``inspection.py`` has the public call, ``layers.py`` reads the list of layers, ``sections.py`` puts
a manifest into words.
"""
