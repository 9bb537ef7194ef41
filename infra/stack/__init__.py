"""Real servers without containers, on loopback: for `make stack`, the demo and the tests."""
