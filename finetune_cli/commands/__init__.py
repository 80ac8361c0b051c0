"""One plain function per command: values in, a record out; nothing is printed here."""
