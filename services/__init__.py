"""The rooms behind the gateway, each a process that speaks gRPC, and the chassis they stand on."""
