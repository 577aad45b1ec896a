"""What each command does, apart from how it is called, which `cli.commands` says."""
