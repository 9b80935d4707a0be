"""Photos, labels and masks on the disk. No torch."""
