"""The endpoints besides chat that take and give JSON."""
