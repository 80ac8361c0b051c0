"""Looking at data that nobody has described yet: how a file is written, what its columns hold, what each is for."""
