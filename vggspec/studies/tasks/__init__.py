"""Work shared among processes, with a journal to resume from."""
