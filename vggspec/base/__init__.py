"""Shared foundations: source text and spans, diagnostics, files, untrusted JSON."""
