"""What vggspec is measured against, written as one would without it."""
