"""llmos: an operating system for language models."""
