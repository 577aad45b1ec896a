"""Guards of the promise, each taken away in a copy of the sources, to see that tests miss it."""
