"""Commands of the simulator. A command parses, calls and prints."""
