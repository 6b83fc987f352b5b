"""The backends: what a network becomes. Each imports its toolkit, and is imported on demand."""
