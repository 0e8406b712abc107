"""The gRPC front: it translates between messages and calls, and decides nothing about models."""
