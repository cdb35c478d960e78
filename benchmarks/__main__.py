"""All benchmarks, one after the other: ``make bench``."""

from benchmarks import call, imports, memory, outage, shutdown, subscriptions, telemetry, validation, where

for benchmark in (call, where, subscriptions, outage, shutdown, imports, memory, telemetry, validation):
    benchmark.main()
    print()
