"""`python -m services.monitor` runs the monitor."""

from services.monitor.app import main

main()
