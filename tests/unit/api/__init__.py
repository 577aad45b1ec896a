"""The api without any server."""
