"""Fuzzers: damaged and hostile input, of which each must be answered in the user's words.

    python -m tests.fuzz                          every target, ten seconds each
    python -m tests.fuzz checkpoints --seconds 3600
    python -m tests.fuzz checkpoints --case 4711  one input again, and what is said of it

A target is a module of ``tests/fuzz/targets`` with a function ``one(random, folder)``, which makes
one input of ``random`` alone and gives it to the project. Everything the project may answer is a
coded error, a missing library or a result that was checked; all else is a failure.
"""
