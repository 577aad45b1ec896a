"""What every service shares: the contract, the rules of the domain, and the adapters to broker, database and provider."""
