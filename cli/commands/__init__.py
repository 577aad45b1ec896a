"""How each command is called. What it does is in `cli.actions`, and loaded only when it runs."""
