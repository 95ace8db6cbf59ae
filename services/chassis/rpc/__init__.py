"""gRPC as every room speaks it: limits, deadlines, health, TLS, caller, trace and errors in one way."""
