"""`python -m services.cli` is `botify`."""

from services.cli.main import main

main()
