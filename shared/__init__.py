"""What every service shares: the contract, the domain, and the adapters to broker, database and provider."""
