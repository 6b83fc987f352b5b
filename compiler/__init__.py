"""The compiler: from a spec's syntax tree to a network, and on to what runs."""
