"""Commands of the model library. A command parses, calls and prints."""
