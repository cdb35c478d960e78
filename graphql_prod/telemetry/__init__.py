"""What operators see: spans and metrics, over OpenTelemetry's API alone."""
