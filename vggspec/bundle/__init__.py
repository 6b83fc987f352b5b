"""The bundle: its manifest, the options it was compiled with, and facts about its engine."""
