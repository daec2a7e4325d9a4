"""Synthetic worlds whose hidden truth is known, and a platform that serves them."""
