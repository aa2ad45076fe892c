"""``python -m llmos``."""

from llmos.cli import main

main()
