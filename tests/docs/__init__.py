"""The documentation: its pages agree with the code, and every example runs."""
