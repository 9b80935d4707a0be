"""Settings compared on one data set: how well they find defects against what they cost."""
