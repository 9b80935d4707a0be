"""Results as text, pictures and pages; two runs compared. No torch."""
