"""What the network computes: backbone, heads, synthetic anomalies, losses."""
