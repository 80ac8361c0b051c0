"""An export: what is asked for, the proof that it answers as the model does, and its card."""
