"""The file formats of rows: each read as a stream, in constant memory."""
