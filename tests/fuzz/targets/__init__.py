"""One module a target; its name is the target's."""
