"""Clients of the other two services: protos in, the gateway's own words out."""
