"""The application: doors, services, wiring. The only package that may know everyone (see docs and README)."""
