"""From score and anomaly map to OK or NG, a mask, regions and pictures."""
