"""Client of the Cloud Agents API, both versions behind one port."""
