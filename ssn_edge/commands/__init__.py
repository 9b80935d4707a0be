"""``ssn-run``, and what all commands of ssn-edge share. The one folder that needs click."""
