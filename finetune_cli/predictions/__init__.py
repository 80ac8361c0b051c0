"""Rows in and answers out of `finetune predict`."""
