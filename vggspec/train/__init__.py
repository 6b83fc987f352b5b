"""Training as section 3.1 of the paper has it: ``vggspec.train.loop.fit`` is the door."""
