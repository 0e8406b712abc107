"""Admin calls on the ops port: what an operator can see and do in a running gateway."""
