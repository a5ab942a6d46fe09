"""The journal's promises under real kills, faults and floods; ``python -m tests.torture`` prints the figures."""
