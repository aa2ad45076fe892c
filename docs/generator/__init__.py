"""Builds those pages of the site that are not files of docs/: the READMEs, and the reference."""
