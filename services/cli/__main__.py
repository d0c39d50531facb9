"""`python -m botify.services.cli` is `botify`."""

from botify.services.cli import main

main()
