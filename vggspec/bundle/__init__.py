"""The bundle: its manifest, the profiles of an engine and what is known of it."""
