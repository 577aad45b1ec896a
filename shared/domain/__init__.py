"""The rules of the product: pure functions on frozen data; no clock, chance, network or database."""
