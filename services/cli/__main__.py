"""`python -m botify.services.cli` is `botify`."""

from botify.services.cli.main import main

main()
