"""What the commands return and write: plain frozen records, to JSON and back."""
