"""What each command does, apart from how it is called, which `cli.main` says."""
