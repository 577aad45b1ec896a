"""What every service serves over HTTP."""
