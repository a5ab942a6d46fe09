"""The policies on the bus: each subscriber applies the policy of the same name."""
