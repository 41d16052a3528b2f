"""Between the policy, the person and the motors; runs without torch."""
