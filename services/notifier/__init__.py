"""Everything that leaves: public events for subscribers, webhooks."""
