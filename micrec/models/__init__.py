"""Two-tower matching models over shared field embeddings."""
