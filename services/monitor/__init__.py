"""Follows agents: receipts and polls become observations."""
