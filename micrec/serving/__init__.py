"""A bundle as an HTTP service (``micrec serve``): requests that come together share a search."""
