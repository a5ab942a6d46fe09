"""Start or join: a call equal to one that is pending, running or waiting joins it instead of running beside it."""
