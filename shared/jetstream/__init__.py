"""JetStream: streams, the event log, consumers, timers and key-value buckets."""
