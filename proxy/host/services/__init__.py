"""The host services: what a plugin may ask of the proxy, one subject a file (plugin.md, "Host services")."""
