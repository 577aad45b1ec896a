"""`python -m cli` is the `orchestrator` command."""

from cli.main import main

main()
