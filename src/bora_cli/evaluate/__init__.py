"""Run policies: collect demonstrations, evaluate success, replay episodes."""
