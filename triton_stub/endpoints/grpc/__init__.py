"""KServe v2 and Triton's extensions over gRPC."""
