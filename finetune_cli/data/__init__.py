"""Rows from files or the Hub, checked, tokenised once and kept on disk; batches of them in a seeded order."""
