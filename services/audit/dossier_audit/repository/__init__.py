"""All SQL of the audit service: events as they were ingested, and the log over them."""
