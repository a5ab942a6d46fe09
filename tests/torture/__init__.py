"""What the journal promises, under real kills, faults and floods: ``python -m tests.torture`` prints the figures."""
