"""Everything on one machine: embedded NATS and Postgres, the four services, the simulator of Cursor's API."""
