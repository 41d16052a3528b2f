"""What a robot is to bora, and how it is reached: in this process, or in another one over a wire."""
