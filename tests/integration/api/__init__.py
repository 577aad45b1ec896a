"""The api on real servers."""
