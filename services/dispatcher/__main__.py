"""`python -m services.dispatcher` runs the dispatcher."""

from services.dispatcher.app import main

main()
