"""Results as text, pictures and pages; ratios and the paper's claims. No torch."""
