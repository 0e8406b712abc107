"""The operator's commands of `parley-gateway`: a client of a running gateway's ops port."""
