"""Whether a bundle agrees with the same net in fp32.

``verification.py`` has the public call; each other file has one part of it: ``cases.py`` the
shapes, ``images.py`` the images, ``reference.py`` the nets that run on them, ``comparison.py`` the
differences of their outputs, ``tolerance.py`` the difference that rounding explains, ``ranges.py``
the numbers that do not fit their type, ``arithmetic.py`` the number type that was really run.
"""
