"""The sandbox of plugin processes: what the launcher takes away before a plugin's first byte is parsed, and what the host watches."""
