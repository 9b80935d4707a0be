"""``ssn-run``, and what all commands of ssn-edge share. Needs click. Internal."""
