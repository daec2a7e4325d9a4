"""From a real click log to the world file that matches its moments."""
