"""All benchmarks, one after the other: ``make bench``."""

from benchmarks import call, imports, memory, outage, subscriptions, where

for benchmark in (call, where, subscriptions, outage, imports, memory):
    benchmark.main()
    print()
