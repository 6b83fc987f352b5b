"""Where objects are: nets of boxes, applied and merged as appendix A of the paper has it."""
