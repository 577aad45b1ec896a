"""A state machine over REST, and the model that it compares the API with."""
