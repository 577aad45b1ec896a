"""Thousands of made-up requests, by the OpenAPI document, to an api at work."""
