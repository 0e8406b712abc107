"""Servers that play the outside world on the loopback interface."""
