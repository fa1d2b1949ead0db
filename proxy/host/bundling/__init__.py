"""An npm graph becomes one ES module: fetched packages in memory in, one bundle and its record out (hardening.md 29)."""
